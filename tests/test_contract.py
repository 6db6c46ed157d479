"""The contract of plugins: what a class that does not inherit gets, and what `wsssbench check` says of a name
that nothing asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import wsssbench.types
from wsssbench.cli.main import main
from wsssbench.plugins.contract import BASES, as_predictor, complete, unknown_names
from wsssbench.plugins.table import Plugins
from wsssbench.types import Dataset, Metric, Outputs, Predictor, Step, View

PLAIN = """
import numpy as np
from wsssbench.types import Outputs, StepCard

class Plain:
    card = StepCard("zzplain", "1", "control", supervision=(), gives=("labels",))
    def __init__(self, config):
        self.config = config
    def fit(self, train, given, ctx):
        return self.predict
    def restore(self, ctx):
        return self.predict
    def predict(self, images, tags, given, want):
        return [Outputs(labels=np.zeros(tuple(image.shape[1:]), np.uint8)) for image in images]
    stride_off = 8
"""


def test_the_contract_fits_on_one_page() -> None:
    page = Path(wsssbench.types.__file__)
    assert len(page.read_text().splitlines()) < 200


def test_a_step_that_does_not_inherit_has_every_default_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    plugins = Plugins()
    plugins.add_file(tmp_path / "plain.py")
    cls = plugins.load("steps", "zzplain")
    step = cls(None)
    assert not issubclass(cls, Step)
    assert cls.__init__ is not Step.__init__
    assert (step.skip("val", ()), step.stride_of("maps"), step.default_threshold()) == ("", 1, None)
    assert (step.batches(), step.path_option, step.trains_together, dict(cls.presets)) == ({}, "", False, {})
    assert step.ready() is None
    assert step.ready_on(None, "lattice") is None


def test_check_names_what_nothing_asks_for_and_what_it_resembles(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    done = CliRunner().invoke(main, ["check", "zzplain", "--plugin", str(tmp_path / "plain.py")])
    assert done.exit_code == 0, done.output
    assert "note: predict, stride_off (did you mean stride_of?) of Plain: not in the contract" in done.output


@pytest.mark.parametrize("group", ["steps", "datasets", "metrics"])
def test_no_built_in_defines_a_name_that_resembles_one_of_the_contract(group: Any) -> None:
    plugins = Plugins()
    for name in plugins.names(group):
        strange = unknown_names(plugins.load(group, name), BASES[group])
        assert not [word for word in strange if "did you mean" in word], name


def test_every_built_in_inherits_from_the_contract() -> None:
    plugins = Plugins()
    for group in ("steps", "datasets", "metrics"):
        own = [e.name for e in plugins.entries(group) if e.distribution == "wsssbench"]
        assert own
        assert all(issubclass(plugins.load(group, name), BASES[group]) for name in own)


def test_completing_overwrites_nothing_and_adds_no_abstract_method() -> None:
    class Mine:
        coded = "numbers"

        def image(self, id: str) -> Any:
            return np.zeros((1, 1, 3), np.uint8)

    found: Any = complete(Mine, Dataset)
    assert (found.coded, found.bare_splits) == ("numbers", ())
    assert not hasattr(found, "mask")
    assert found().prepare() is None
    with pytest.raises(NotImplementedError):
        found().read_mask(Path("x.png"))


def test_a_function_becomes_a_predictor_and_an_object_stays_what_it_is() -> None:
    class Own:
        images_per_call = 3

        def __call__(self, *asked: Any) -> list[Outputs]:
            return [Outputs()]

    wrapped, own = as_predictor(lambda *asked: [Outputs(labels=asked[0])]), Own()
    assert wrapped.images_per_call == Predictor.images_per_call
    assert wrapped(["image"], None, [], frozenset())[0].labels == ["image"]
    assert wrapped.look_up([], []) is None
    assert as_predictor(own) is own
    assert as_predictor(own).images_per_call == 3
    assert as_predictor(own).look_up([], []) is None


def test_a_plugin_that_inherits_is_refused_by_name_where_it_lacks_a_method() -> None:
    class Half(Step):
        def restore(self, ctx: Any) -> Any: ...

    with pytest.raises(TypeError, match="fit"):
        Half(None)


def test_a_metric_of_sums_scores_a_table_by_its_sum() -> None:
    class Pixels(Metric):
        name, needs, better, unit = "pixels", "labels", "higher", "px"

        def count(self, output: Any, gold: Any, classes: int) -> Any:
            return {"n": np.array([gold.size])}

        def score(self, counts: Any, classes: int) -> dict[str, int]:
            return {"n": int(counts["n"][0])}

    class Table:
        def total(self) -> dict[str, Any]:
            return {"n": np.array([7])}

    assert Pixels().score_table(Table(), 1) == {"n": 7}


def test_an_index_error_of_a_data_set_ends_no_view_early() -> None:
    from wsssbench.testing.tiny import TinyDataset

    class Broken(TinyDataset):
        def image(self, id: str) -> Any:
            return super().image(id) if id == "val_0" else [][0]

    with pytest.raises(IndexError):
        list(View(Broken(), "val", ("tags",)))


def test_a_view_iterates_over_its_samples_and_ends() -> None:
    from wsssbench.testing.tiny import TinyDataset

    data = TinyDataset()
    view = View(data, "val", ("tags",))
    assert [sample.id for sample in view] == list(data.ids("val"))
    assert all(sample.mask is None and sample.tags is not None for sample in view[1:3])
