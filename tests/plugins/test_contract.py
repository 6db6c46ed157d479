"""Every installed step and data set keeps its contract; one that does not is told so in a sentence."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.metrics import Iou, percent
from wsssbench.plugins.options import option_names
from wsssbench.plugins.table import Plugins
from wsssbench.testing import BrokenContract, check_dataset, check_metric, check_step
from wsssbench.testing.tiny import TinyDataset
from wsssbench.types import Maps, Outputs, StepCard

PLUGINS = Plugins()
PLUGIN = Path(__file__).parents[1] / "bright_step.py"
Bright: Any = runpy.run_path(str(PLUGIN))["Bright"]


OF_FILES = {"command", "import", "folder"}  # need a program, a folder, a description: in their own tests
ON_DISK = {"coco14": "coco_tree", "voc12": "voc_tree"}  # data set -> the fixture that is its tree


@pytest.mark.parametrize("name", sorted({*PLUGINS.names("steps")} - OF_FILES))
def test_every_installed_step_keeps_its_contract(name: str) -> None:
    cls = PLUGINS.load("steps", name)
    if "steps" in option_names(cls):  # it trains: only its own short lengths fit into a test
        assert "tiny" in cls.presets
    assert len(check_step(cls, name=name)) > 20


@pytest.mark.parametrize("name", sorted({*PLUGINS.names("datasets")} - OF_FILES))
def test_every_installed_data_set_keeps_its_contract(name: str, request: pytest.FixtureRequest) -> None:
    options = {"root": str(request.getfixturevalue(ON_DISK[name]).root)} if name in ON_DISK else {}
    assert len(check_dataset(PLUGINS.load("datasets", name), options, name)) > 20


@pytest.mark.parametrize("name", PLUGINS.names("metrics"))
def test_every_installed_metric_keeps_its_contract(name: str) -> None:
    assert len(check_metric(PLUGINS.load("metrics", name), name)) >= 18


def test_the_made_up_data_set_of_the_contract_tests_keeps_the_contract_itself() -> None:
    check_dataset(TinyDataset, name="tiny")


# ------------------------------------------------------------------------------------------ broken steps


def failures(cls: type, **options: Any) -> str:
    with pytest.raises(BrokenContract) as caught:
        check_step(cls, options)
    assert all("\n" not in failure for failure in caught.value.failures)
    return "\n".join(caught.value.failures)


def variant(**changes: Any) -> type:
    """`Bright` with other class attributes."""
    return type("Variant", (Bright,), changes)


def carded(**changes: Any) -> type:
    return variant(card=dataclasses.replace(Bright.card, **changes))


def answering(change: Callable[[Outputs, Any], Outputs]) -> type:
    """`Bright` whose outputs are changed; `change` sees the image's tags too."""

    def outputs(self: Any, image: Any, gain: float, tags: Any) -> Outputs:
        return change(Bright.outputs(self, image, gain, tags), tags)

    return variant(outputs=outputs)


def with_maps(**changes: Callable[[Any], Any]) -> type:
    def change(given: Outputs, tags: Any) -> Outputs:
        assert given.maps is not None
        fields = {name: edit(getattr(given.maps, name)) for name, edit in changes.items()}
        return dataclasses.replace(given, maps=dataclasses.replace(given.maps, **fields))

    return answering(change)


def test_a_good_step_passes() -> None:
    assert len(check_step(Bright, name="bright")) > 20


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"supervision": ("labels",)}, "card.supervision names some of"),
        ({"gives": ("cams",)}, "gives, takes and learns_from name some of"),
        ({"gives": ()}, "card.gives names at least one kind of output"),
        ({"role": "magic"}, "card.role is one of"),
        ({"version": ""}, "card.version is not empty"),
        ({"name": "a/b"}, "which names a folder, but it is 'a/b'"),
    ],
)
def test_a_wrong_card_is_told(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BrokenContract, match="broken contract") as caught:
        check_step(carded(**changes))
    assert sentence in str(caught.value)


def test_a_name_that_differs_from_the_entry_points_is_told() -> None:
    with pytest.raises(BrokenContract, match=r"card\.name is the name dark"):
        check_step(Bright, name="dark")


def test_a_config_that_is_not_frozen_or_reserves_preset_is_told() -> None:
    @dataclasses.dataclass
    class Loose:
        threshold: float = 0.5

    @dataclasses.dataclass(frozen=True)
    class Preset:
        threshold: float = 0.5
        stride: int = 2
        preset: str = "x"

    assert "Config is a frozen dataclass" in failures(variant(Config=Loose, presets={}))
    assert "no option is called `preset`" in failures(variant(Config=Preset, presets={}))


def test_a_preset_with_an_unknown_option_is_told() -> None:
    assert "the preset odd fits Config" in failures(variant(presets={"odd": {"strode": 3}}))


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (with_maps(values=lambda v: v * 2), "maps are Maps"),
        (with_maps(values=lambda v: v[..., 0]), "maps are Maps"),
        (with_maps(values=lambda v: v * np.nan), "maps are Maps"),
        (with_maps(values=lambda v: v[:1], classes=lambda c: c + 2), "maps are Maps"),
        (with_maps(classes=lambda c: c[::-1]), "maps are Maps"),
        (with_maps(classes=lambda c: c.tolist()), "maps are Maps"),
        (answering(lambda o, tags: Outputs(maps=o.maps)), "tag_scores are returned where they are wanted"),
        (answering(lambda o, t: dataclasses.replace(o, tag_scores=np.ones(5))), "tag_scores are (2,) floats"),
    ],
)
def test_outputs_of_a_wrong_kind_shape_or_range_are_told(cls: type, sentence: str) -> None:
    assert sentence in failures(cls)


def test_maps_of_classes_that_the_tags_do_not_name_are_told() -> None:
    def every(given: Outputs, tags: Any) -> Outputs:
        maps = Maps(np.arange(2), np.zeros((2, 4, 4), np.float32))
        return dataclasses.replace(given, maps=maps)

    assert "with tags and returned Maps of classes [0, 1]" in failures(answering(every))


class Labeller:
    """A predictor's shell: labels of one value, one size or another."""

    presets: ClassVar = {}
    card = StepCard("labeller", "1", "control", (), ("labels",))
    value, shape, dtype = 0, None, np.uint8

    def __init__(self, config: Any) -> None:
        self.config = config

    def fit(self, train: Any, given: Any, ctx: Any) -> Any:
        return lambda images, tags, given, want: [self.label(image) for image in images]

    def label(self, image: Any) -> Outputs:
        return Outputs(labels=np.full(self.shape or tuple(image.shape[1:]), self.value, self.dtype))

    def restore(self, ctx: Any) -> Any:
        return self.fit(None, None, ctx)


@pytest.mark.parametrize("changes", [{"value": 3}, {"shape": (32, 32)}, {"dtype": np.int64}])
def test_labels_out_of_range_or_of_another_size_or_type_are_told(changes: dict[str, Any]) -> None:
    check_step(Labeller)
    assert "labels are (H, W) uint8 of the image's size" in failures(type("Bad", (Labeller,), changes))


def test_options_may_take_supervision_away_and_never_add_it() -> None:
    def having(*supervision: str) -> type:
        def own(self: Any, config: Any) -> None:
            self.config = config
            self.card = dataclasses.replace(self.card, supervision=supervision)

        return type("Own", (Labeller,), {"__init__": own, "card": card})

    card = dataclasses.replace(Labeller.card, supervision=("tags",))
    check_step(having())
    assert "options add no outputs or supervision to the class's card" in failures(having("tags", "masks"))


def test_each_alternative_that_a_step_takes_is_tried() -> None:
    def fit(self: Any, train: Any, given: Any, ctx: Any) -> Any:
        def predict(images: Any, tags: Any, given: Any, want: Any) -> list[Outputs]:
            assert all(g.probs is not None for g in given)  # forgets that maps may come instead
            return [self.label(image) for image in images]

        return predict

    card = dataclasses.replace(Labeller.card, takes=("probs|maps",))
    assert "it raised AssertionError" in failures(type("Forgetting", (Labeller,), {"fit": fit, "card": card}))


def test_reading_what_the_supervision_does_not_allow_is_told() -> None:
    def fit(self: Any, train: Any, given: Any, ctx: Any) -> Any:
        data = train._View__dataset  # a way around the view
        data.mask(train.ids[0]), data.tags(train.ids[0]), data.image("val_0")
        return Labeller.fit(self, train, given, ctx)

    told = failures(type("Spy", (Labeller,), {"fit": fit}))
    assert "fit reads no masks" in told
    assert "fit reads no tags" in told
    assert "fit reads the images of the fit split only" in told


def test_a_view_gives_a_step_without_masks_no_masks() -> None:
    def fit(self: Any, train: Any, given: Any, ctx: Any) -> Any:
        assert all(sample.mask is None and sample.tags is None for sample in train or ())
        return Labeller.fit(self, train, given, ctx)

    check_step(type("Looking", (Labeller,), {"fit": fit}))


def test_a_step_that_forgets_what_it_learned_is_told() -> None:
    def restore(self: Any, ctx: Any) -> Any:
        return lambda images, tags, given, want: [
            Outputs(labels=np.ones(tuple(image.shape[1:]), np.uint8)) for image in images
        ]

    told = failures(type("Forgetful", (Labeller,), {"restore": restore}))
    assert "a restored step gives the same labels as the fitted one" in told


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fit": lambda self, train, given, ctx: None}, "fit returns a predictor, but it returned None"),
        (
            {"fit": lambda self, train, given, ctx: 1 / 0},
            "it raised ZeroDivisionError: division by zero (test_contract.py, line ",
        ),
        ({"restore": lambda self, ctx: ctx.nothing}, "restore returns a predictor, but it raised"),
        ({"label": lambda self, image: image.fill_(0) and None}, "it raised"),
    ],
)
def test_a_step_that_breaks_is_told(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in failures(type("Broken", (Labeller,), changes))


def test_a_predictor_that_drops_or_changes_images_is_told() -> None:
    def dropping(self: Any, train: Any, given: Any, ctx: Any) -> Any:
        return lambda images, tags, given, want: [self.label(image) for image in images[1:]]

    def changing(self: Any, image: Any) -> Outputs:
        image.fill_(0)
        return Labeller.label(self, image)

    assert "one Outputs per image" in failures(type("Dropping", (Labeller,), {"fit": dropping}))
    assert "leaves its images as they are" in failures(type("Changing", (Labeller,), {"label": changing}))


# --------------------------------------------------------------------------------------- broken data sets


def broken(**changes: Any) -> str:
    with pytest.raises(BrokenContract) as caught:
        check_dataset(type("Variant", (TinyDataset,), changes))
    return "\n".join(caught.value.failures)


def tiny(**changes: Any) -> Any:
    return dataclasses.replace(TinyDataset.card, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"card": tiny(split_options={"vla": {}})}, "card.split_options names splits, but it names ['vla']"),
        ({"card": tiny(class_names=["red", "blue"])}, "class_names is a tuple"),
        ({"card": tiny(fit_split="trainaug")}, "are splits"),
        ({"card": tiny(eval_split="train")}, "no image of the fit split is judged"),
        ({"card": tiny(label_source="guess")}, "label_source is one of"),
        ({"card": tiny(generated=False)}, "does not depend on the seed"),
        ({"ids": lambda self, split: ["train_0"]}, "ids(split) is a tuple of strings"),
        ({"ids": lambda self, split: (f"{split}_0",)}, "an unknown split is a WsssError"),
        ({"ids": lambda self, split: ("../up",)}, "ids can name files"),
        ({"image": lambda self, id: self.scene(id)[0] / 255}, "images are (H, W, 3) uint8"),
        ({"mask": lambda self, id: self.scene(id)[1][1:]}, "masks are (H, W) uint8 of the image's size"),
        ({"mask": lambda self, id: self.scene(id)[1] + 5}, "masks hold 0..2 or 255"),
        ({"tags": lambda self, id: self.scene(id)[2].astype(float)}, "tags are (2,) bool"),
        ({"tags": lambda self, id: ~self.scene(id)[2]}, "tags that come from the mask are its classes"),
        ({"fingerprint": lambda self, split: split}, "a fingerprint is a sha256 in hex"),
        ({"fingerprint": lambda self, split: f"{id(self):064x}"}, "equal data has equal fingerprints"),
    ],
)
def test_a_broken_data_set_is_told(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in broken(**changes)


# ----------------------------------------------------------------------------------------- broken metrics


class Share:
    """A metric's shell: the share of pixels with the right label."""

    name, needs, better, unit = "share", "labels", "higher", "%"

    def count(self, output: Any, gold: Any, classes: int) -> Any:
        judged = gold != 255
        return {"right": np.array([(output == gold)[judged].sum()]), "all": np.array([judged.sum()])}

    def score(self, counts: Any, classes: int) -> Any:
        return {"share": percent(int(counts["right"][0]), int(counts["all"][0]))}


def count_of(edit: Callable[[Any], Any]) -> dict[str, Any]:
    """`Share` whose counts are changed."""
    return {"count": lambda self, output, gold, classes: edit(Share.count(self, output, gold, classes))}


def spoil(self: Any, output: Any, gold: Any, classes: int) -> Any:
    output[:] = 0
    return Share.count(self, output, gold, classes)


def use_up(self: Any, counts: Any, classes: int) -> Any:
    counts["all"] += 1
    return Share.score(self, counts, classes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "no name"}, "its name is a name for a column, but it is 'no name'"),
        ({"needs": "masks"}, "needs is one of maps, probs, labels"),
        ({"better": "up"}, "better is one of higher, lower, but it is 'up'"),
        ({"unit": ""}, "unit is a word"),
        ({"score": None}, "it has a method score, but it has none"),
        (count_of(lambda c: c["right"]), "counts are a mapping from names to arrays"),
        (count_of(lambda c: {**c, "all": c["all"] / 2}), "counts are int64 arrays, but 'all' is float64"),
        (count_of(lambda c: {**c, "all": 3}), "counts are int64 arrays, but 'all' is int"),
        (count_of(lambda c: {f"{c['all'][0]}": c["all"]}), "so that they add up, but it raised ValueError"),
        (count_of(lambda c: {"all": np.ones(int(c["right"][0]) + 1, int)}), "shapes, so that they add up"),
        ({"count": spoil}, "count leaves output and truth as they are"),
        ({"score": use_up}, "score leaves the counts as they are"),
        ({"score": lambda self, counts, classes: {}}, "a score is a mapping from names to numbers"),
        ({"score": lambda self, c, classes: {"share": c["right"][0]}}, "in Python's own types"),
        ({"score": lambda self, c, classes: {"share": [float("nan")]}}, "scores are finite numbers"),
        ({"score": lambda self, c, k: {"x": int(c["right"][0]) // int(c["all"][0])}}, "None where it has no"),
        ({"from_confusion": True}, "go with the counts of confusion_counts, but there are right, all"),
    ],
)
def test_a_broken_metric_is_told(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BrokenContract) as caught:
        check_metric(type("Variant", (Share,), changes))
    assert all("\n" not in failure for failure in caught.value.failures)
    assert sentence in str(caught.value)


def test_a_good_metric_passes_and_one_of_another_name_is_told() -> None:
    assert len(check_metric(Share, "share")) == 18
    assert len(check_metric(Iou)) == 18
    with pytest.raises(BrokenContract, match="its name is part, but it is 'share'"):
        check_metric(Share, "part")


# ------------------------------------------------------------------------------------------------ command


def test_the_command_checks_metrics_and_names_what_it_knows() -> None:
    good = CliRunner().invoke(main, ["check", "accuracy"])
    assert (good.exit_code, "metric accuracy: ok" in good.output) == (0, True)
    unknown = CliRunner().invoke(main, ["check", "acuracy"])
    assert unknown.exit_code == 2
    assert "unknown step, data set or metric 'acuracy'" in unknown.output
    assert "did you mean accuracy" in unknown.output


def test_the_command_prints_what_holds_and_ends_with_1_where_something_is_broken(tmp_path: Path) -> None:
    good = CliRunner().invoke(main, ["check", "bright", "--plugin", str(PLUGIN)])
    assert (good.exit_code, "contracts hold" in good.output) == (0, True)
    bad = tmp_path / "bad.py"
    bad.write_text(PLUGIN.read_text().replace("* np.float32(gain)", "* np.float32(2)"))
    told = CliRunner().invoke(main, ["check", "bad", "--plugin", str(bad)])
    assert told.exit_code == 0, "values are cut to 0..1"
    bad.write_text(PLUGIN.read_text().replace("planes[chosen].clip(0, 1)", "planes[chosen] * 2"))
    told = CliRunner().invoke(main, ["check", "bad", "--plugin", str(bad)])
    assert told.exit_code == 1
    assert "step bright: 1 of its contracts are broken\n- maps are Maps" in told.output
