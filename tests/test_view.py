"""What a step may see of a data set: the kinds that it declares, and nothing read in vain."""

from __future__ import annotations

import numpy as np
import pytest

from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import View


@pytest.mark.parametrize("declared", [(), ("tags",), ("masks",), ("tags", "class_names")])
def test_a_sample_holds_what_was_declared_and_nothing_else(declared: tuple[str, ...]) -> None:
    sample = View(TinyDataset(), "train", declared)[0]
    given = {"tags": sample.tags, "masks": sample.mask, "class_names": sample.class_names}
    assert {name for name, value in given.items() if value is not None} == set(declared)


def test_tags_are_told_without_reading_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data = TinyDataset()
    view = View(data, "train", ("tags",))
    expected = [sample.tags for sample in view]
    monkeypatch.setattr(TinyDataset, "image", lambda self, id: pytest.fail(f"read {id}"))
    assert np.array_equal([view.tags(id) for id in view.ids], expected)


def test_tags_that_were_not_declared_are_not_told() -> None:
    view = View(TinyDataset(), "train", ("masks",))
    with pytest.raises(LookupError, match="declares"):
        view.tags(view.ids[0])
