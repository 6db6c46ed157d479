"""The judge of scores, and what every installed metric must do whatever it needs."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from wsssbench.errors import BadData, WsssError
from wsssbench.judging.judge import score_outputs, score_split
from wsssbench.metrics import Iou, add_counts
from wsssbench.plugins.table import Plugins
from wsssbench.scores.calibration import Calibration
from wsssbench.scores.pxap import PxAP
from wsssbench.scores.tagging import TagScores
from wsssbench.scores.threshold_curve import ThresholdCurve
from wsssbench.testing.tiny import TinyDataset, made_up_outputs
from wsssbench.types import KINDS, Maps, Outputs

PLUGINS = Plugins()
DATA = TinyDataset()
IDS = DATA.ids("train")
SOFT = (ThresholdCurve(), PxAP(), Calibration(), TagScores())


def every_kind(id: str) -> Outputs:
    return made_up_outputs(DATA, id, KINDS)


def assert_plain(value: Any) -> None:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            assert_plain(each)
    else:
        assert type(value) in (int, float, str, type(None))
        assert value == value  # no NaN


@pytest.mark.parametrize("name", PLUGINS.names("metrics"))
def test_every_installed_metric_adds_integers_up_to_plain_numbers(name: str) -> None:
    metric = PLUGINS.load("metrics", name)()
    assert (metric.name, metric.better in ("higher", "lower"), bool(metric.unit)) == (name, True, True)
    parts = [metric.count(getattr(every_kind(id), metric.needs), DATA.mask(id), 2) for id in IDS]
    assert {array.dtype for counts in parts for array in counts.values()} == {np.dtype(np.int64)}
    whole = metric.score(add_counts(parts), 2)
    assert_plain(dict(whole))
    assert metric.score(add_counts([add_counts(parts[::2]), add_counts(parts[1::2])]), 2) == whole


@pytest.mark.parametrize("name", PLUGINS.names("metrics"))
def test_every_metric_says_its_formula_and_where_it_comes_from(name: str) -> None:
    said = inspect.getdoc(PLUGINS.load("metrics", name)) or ""
    assert re.search(r"\b(19|20)\d\d\b|public code", said)
    assert re.search(r"\S = |what is gained|share\(|\(t\) is", said)


def test_each_metric_gets_the_kind_that_it_needs_and_its_counts_add_up() -> None:
    found = score_outputs(DATA, IDS, every_kind, (*SOFT, Iou()))
    assert list(found) == ["threshold_curve", "pxap", "calibration", "tag_scores", "iou"]
    assert {scores["n_images"] for scores in found.values()} == {len(IDS)}
    for metric in SOFT:
        counts = [metric.count(getattr(every_kind(id), metric.needs), DATA.mask(id), 2) for id in IDS]
        assert found[metric.name] == {**metric.score(add_counts(counts), 2), "n_images": len(IDS)}
    assert (found["tag_scores"]["mean_ap"], found["tag_scores"]["f1_micro"]) == (100, 100)
    labels, _ = score_split(DATA, IDS, lambda id: every_kind(id).labels)  # type: ignore[arg-type, return-value]
    assert found["iou"] == labels["iou"]


def test_outputs_and_masks_are_read_once_per_image() -> None:
    reads: Counter[str] = Counter()

    def read(id: str) -> Outputs:
        reads[id] += 1
        return every_kind(id)

    data = TinyDataset()
    score_outputs(data, IDS, read, SOFT)
    assert reads == Counter(IDS)
    assert data.reads == {"image": set(), "tags": set(), "mask": set(IDS)}


@pytest.mark.parametrize("metric", SOFT, ids=lambda metric: metric.name)
def test_a_kind_that_the_step_did_not_give_is_told_with_the_image(metric: Any) -> None:
    with pytest.raises(WsssError, match=f"needs {metric.needs}, which the step did not output") as caught:
        score_outputs(DATA, IDS, lambda id: Outputs(labels=DATA.mask(id)), [metric])
    assert caught.value.where == f"tiny {IDS[0]}"


def test_outputs_that_a_metric_refuses_are_told_with_the_image() -> None:
    bad = Outputs(maps=Maps(np.array([0]), np.full((1, 2, 2), 2, np.float32)))
    with pytest.raises(BadData, match=r"maps have values outside 0\.\.1") as caught:
        score_outputs(DATA, IDS, lambda id: bad if id == IDS[3] else every_kind(id), SOFT)
    assert caught.value.where == f"tiny {IDS[3]}"


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(BadData, match="no images to judge"):
        score_outputs(DATA, (), every_kind, SOFT)
