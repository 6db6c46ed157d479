"""Mined labels: what they teach, by hand, and the command that says it of any method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import wsssbench
from wsssbench.cli.main import main
from wsssbench.commands.mined import with_rule
from wsssbench.errors import BadData, WsssError
from wsssbench.metrics import add_counts
from wsssbench.planning.settings import Settings
from wsssbench.running.opening import open_plugins
from wsssbench.scores.mined import Mined
from wsssbench.testing.metric_contract import check_metric

TINY = ["-o", "shapes.preset=tiny", "-o", "rrm.preset=tiny", "-o", "cam.preset=tiny", "-q"]


def labels(*rows: str) -> np.ndarray:
    """(H, W) uint8 of digits; "-" is 255."""
    return np.array([[255 if c == "-" else int(c) for c in row] for row in rows], np.uint8)


def test_shares_precision_and_recall_are_of_pooled_pixels_and_void_does_not_count() -> None:
    first = Mined().count(labels("00-1", "01--"), labels("0011", "00-1"), 2)
    second = Mined().count(labels("1-12", "----"), labels("1022", "00-0"), 2)
    scores = Mined().score(add_counts([first, second]), 2)
    truth = np.bincount(np.concatenate([[0, 0, 1, 1, 0, 0, 1], [1, 0, 2, 2, 0, 0, 0]]), minlength=3)
    assert truth.tolist() == [8, 4, 2]
    assert scores["true_background"] == pytest.approx(100 * 8 / 14)
    assert scores["share_background"] == pytest.approx(100 * 3 / 14)
    assert scores["precision_background"] == 100
    assert scores["recall_background"] == pytest.approx(100 * 3 / 8)
    assert scores["share_objects"] == pytest.approx(100 * 5 / 14)
    assert scores["precision_objects"] == pytest.approx(
        100 * 3 / 5
    )  # one on background, one of another class
    assert scores["recall_objects"] == pytest.approx(100 * 3 / 6)
    assert scores["mined"] == pytest.approx(100 * 6 / 8)
    assert scores["objects_per_background"] == pytest.approx(5 / 3)
    assert (scores["images_without_background"], scores["images_without_objects"]) == (50, 0)
    assert scores["share_per_class"] == pytest.approx([300 / 14, 400 / 14, 100 / 14])
    assert scores["precision_per_class"] == pytest.approx([100, 50, 100])
    assert scores["recall_per_class"] == pytest.approx([37.5, 50, 50])
    assert scores["images_without_per_class"] == [50, 0, 0]


def test_what_is_not_there_has_no_percentage() -> None:
    scores = Mined().score(Mined().count(labels("--"), labels("22"), 2), 2)
    undefined = {k for k, v in scores.items() if v is None}
    assert undefined == {
        *(
            "mined",
            "precision_background",
            "recall_background",
            "precision_objects",
            "objects_per_background",
        ),
    }
    assert (scores["share_background"], scores["true_background"], scores["recall_objects"]) == (0, 0, 0)
    assert scores["images_without_objects"] == 100
    assert scores["share_per_class"] == [None, None, 0]
    assert scores["images_without_per_class"] == [100, None, 100]


def test_an_image_is_without_background_where_no_pixel_is_mined_as_such_also_on_void() -> None:
    on_void = Mined().count(labels("0-"), labels("-1"), 1)
    assert on_void["lacking"].tolist() == [0, 1]
    assert Mined().score(on_void, 1)["images_without_background"] == 0


def test_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadData, match="label 7"):
        Mined().count(labels("7"), labels("0"), 2, "here")


def test_it_keeps_the_contract_of_a_metric() -> None:
    assert check_metric(Mined, "mined")


# ---------------------------------------------------------------------------------------------- the command


def mined(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["mined", *arguments])


def test_rrm_and_a_localizer_are_judged_by_the_labels_that_they_mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mined("rrm", "cam", "--dataset", "shapes", *TINY)
    assert done.exit_code == 0, done.output
    assert [line.split("|")[1].strip() for line in done.stdout.splitlines()[4:6]] == ["rrm", "cam > reliable"]
    assert "cam > reliable, by class (%)" in done.stdout
    again = mined("rrm", "cam", "--dataset", "shapes", "--json", *TINY)
    first, second = json.loads(again.stdout)
    assert (first["method"], second["method"]) == ("rrm", "cam > reliable")
    record = next(tmp_path.glob("runs/shapes/rrm/**/record.json"))
    kept = json.loads(record.read_text())["scores"]["mined"]
    assert first["precision_background"] == kept["precision_background"]
    assert first["recall_per_class"]["stripes"] == kept["recall_per_class"][1]
    assert f"{kept['precision_background']:.2f}" in done.stdout
    options = {"shapes.preset": "tiny", "rrm.preset": "tiny"}
    (row,) = found = wsssbench.mined("rrm", "shapes", options=options, quiet=True)
    assert row.numbers["precision_background"] == kept["precision_background"]
    assert "| rrm " in repr(found)
    assert "<table>" in found._repr_html_()


def test_a_method_of_the_settings_file_keeps_its_options_under_the_rule() -> None:
    own = {"cam": {"crop": 64}}
    settings = Settings(methods=("mine",), recipes={"mine": ("cam",)}, recipe_options={"mine": own})
    ruled = with_rule(settings, open_plugins(()))
    assert ruled.methods == ("mine+reliable",)
    assert ruled.recipes["mine+reliable"] == ("cam", "reliable")
    assert ruled.recipe_options["mine+reliable"] == own
    taken = replace(settings, recipes={"mine": ("cam",), "mine+reliable": ("cam", "crf", "reliable")})
    with pytest.raises(WsssError, match="there is a method 'mine\\+reliable'"):
        with_rule(taken, open_plugins(()))
    both = with_rule(replace(settings, methods=("rrm", "cam > reliable")), open_plugins(()))
    assert both.methods == ("rrm", "cam > reliable")


def test_a_method_whose_labels_are_not_mined_is_refused() -> None:
    with pytest.raises(WsssError, match="crf gives") as caught:
        with_rule(Settings(methods=("cam+crf",)), open_plugins(()))
    assert "rrm" in caught.value.hint
    done = mined("constant", "--dataset", "shapes", *TINY)
    assert done.exit_code == 2
    assert "constant gives labels" in done.output
