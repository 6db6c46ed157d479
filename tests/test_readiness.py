"""What is known when planning is said when planning: exit code 2, nothing written; and how much disk."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.machine import hardware
from wsssbench.machine.hardware import Hardware, resolve_hardware
from wsssbench.nets.backbones import BACKBONES
from wsssbench.nets.wrn38_names import CLASSIFIER
from wsssbench.planning.metric_choice import applicable
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.planning.stages import STAGES
from wsssbench.plugins.table import Plugins
from wsssbench.running.demands import rooms, slow_filter
from wsssbench.types import DatasetCard

TINY = ("-o", "shapes.preset=tiny", "--runs", "runs")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["run", "--dataset", "shapes", *TINY, *words])


def refused(*words: str) -> str:
    """What is said of a run that must not begin."""
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert not Path("runs").exists()
    return done.output


# ------------------------------------------------------------------------------------------- networks


def test_a_stride_that_a_backbone_has_not_is_told_before_anything_trains() -> None:
    said = refused("--method", "cam", "-o", "cam.preset=none", "-o", "cam.backbone=small")
    assert "output stride 16 is not offered by backbone small [cam.output_stride]" in said
    assert "choose one of 8, 4" in said


@pytest.mark.parametrize("method", ["cam", "gradcam", "scorecam", "rrm", "full", "cam-2step"])
def test_every_step_with_a_network_checks_its_stride(method: str) -> None:
    step = "segmenter" if method == "cam-2step" else method
    assert f"[{step}.output_stride]" in refused("--method", method, "-o", f"{step}.output_stride=16")


@pytest.mark.parametrize("key", ["gradcam.layer=layer9", "layercam.layers=last,layer9"])
def test_a_layer_that_a_backbone_has_not_is_told_before_anything_trains(key: str) -> None:
    step = key.partition(".")[0]
    assert f"the backbone has no part 'layer9' [option {step}.layer]" in refused("--method", step, "-o", key)


def weights_of(name: str) -> Path:
    path, state = Path(f"{name}.pth"), BACKBONES[name].build(8).state_dict()
    moved = {k: v + 0.1 if k.endswith("running_mean") else v for k, v in state.items()}  # as if trained
    torch.save(moved, path)
    return path


@pytest.mark.parametrize("method", ["cam", "rrm", "full", "cam > crf > segmenter"])
def test_weights_of_another_backbone_are_told_with_the_one_that_they_fit(method: str) -> None:
    step = method.rpartition(" ")[2]
    words = ["--method", method, "-o", f"{step}.backbone=resnet18", "-o", f"{step}.output_stride=16"]
    said = refused(*words, "--weights", f"{step}={weights_of('small')}")
    assert "these weights do not fit resnet18" in said
    assert "it fits backbone small" in said


def test_weights_that_fit_are_planned_with_and_a_missing_file_is_named() -> None:
    words = ["--method", "cam", "-o", "cam.backbone=small", "-o", "cam.output_stride=8", "--dry-run"]
    assert run(*words, "--weights", f"cam={weights_of('small')}").exit_code == 0
    assert "gone.pth" in refused(*words, "--weights", "cam=gone.pth")


@pytest.mark.parametrize(
    ("step", "key"), [("cam", "steps"), ("rrm", "classifier_steps"), ("full", "classifier_steps")]
)
def test_a_classifier_of_no_steps_needs_a_file_that_holds_one(step: str, key: str) -> None:
    said = refused("--method", step, "-o", f"{step}.{key}=0")
    assert "a classifier of 0 steps needs a file that holds a trained classifier" in said


TRAINED = (
    "--method", "cam", "-o", "cam.backbone=wrn38", "-o", "cam.output_stride=8", "-o", "cam.steps=0",
    "--weights", "cam=res38_cls.pth",
)  # fmt: skip


def test_a_file_that_holds_no_classifier_is_told_before_anything_trains() -> None:
    torch.save({CLASSIFIER["head.weight"]: torch.zeros(20, 4096, 1, 1)}, "res38_cls.pth")
    assert "[res38_cls.pth]" in refused(*TRAINED)


def test_a_trained_classifier_is_tried_with_the_classes_of_the_data_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real file has 400 MB: what reads one is asked for the shape that it would fill."""
    Path("res38_cls.pth").touch()

    def load(net: Any, path: str) -> frozenset[str]:
        raise BadData(f"20 classes, not {net.head.out_channels}, on {net.head.weight.device}", where=path)

    monkeypatch.setattr("wsssbench_methods.classifier.load_official", load)
    assert "20 classes, not 3, on meta [res38_cls.pth]" in refused(*TRAINED)


# --------------------------------------------------------------------------------------------- filters


@pytest.fixture
def pydensecrf(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were installed: nothing of it is asked when planning."""
    monkeypatch.setattr(hardware, "find_spec", lambda name: object())


@pytest.mark.usefixtures("pydensecrf")
@pytest.mark.parametrize(
    "words", [("--method", "rrm"), ("--method", "cam-2step", "-o", "segmenter.loss=joint")]
)
def test_a_loss_that_filters_is_refused_with_a_backend_that_cannot(words: tuple[str, ...]) -> None:
    said = refused(*words, "--filter", "pydensecrf")
    assert "backend 'pydensecrf' runs whole dense CRFs and cannot filter" in said
    assert "lattice" in said


@pytest.mark.usefixtures("pydensecrf")
@pytest.mark.parametrize("words", [("--method", "rrm", "-o", "rrm.energy_weight=0"), ("--method", "cam+crf")])
def test_what_only_runs_crfs_is_planned_with_pydensecrf(words: tuple[str, ...]) -> None:
    assert run(*words, "--filter", "pydensecrf", "--dry-run").exit_code == 0


def test_a_class_that_a_data_set_has_not_is_told_before_files_are_read() -> None:
    Path("maps").mkdir()
    said = refused("--method", "import:maps", "-o", "import.format=wsol", "-o", "import.class_index=3")
    assert "class 3 is none of the 3 classes of shapes [import.class_index]" in said


STEP = '''
from wsssbench.errors import WsssError
from wsssbench.types import NoConfig, Outputs, StepCard
import numpy as np

class Picky:
    Config = NoConfig
    card = StepCard("picky", "1", role="control", supervision=(), gives=("labels", "mined"))
    def __init__(self, config): self.config = config
    def ready_on(self, card, filter_backend):
        if filter_backend == "exact" or len(card.class_names) > 3:
            raise WsssError(f"not with {filter_backend} on {card.name}", where="picky", hint="no")
    def fit(self, train, given, ctx): return self.restore(ctx)
    def restore(self, ctx):
        def predict(images, tags, given, want):
            labels = [np.zeros(tuple(i.shape[1:]), np.uint8) for i in images]
            return [Outputs(labels=l, mined=None if tags is None else l) for l in labels]
        return predict

class Sparse:
    """Share of pixels that were mined."""
    name, needs, better, unit = "sparse", "mined", "higher", "%"
    def count(self, output, gold, classes):
        return {"mined": np.array([(output != 255).sum(), output.size])}
    def score(self, counts, classes):
        return {"share": 100 * float(counts["mined"][0] / counts["mined"][1])}

class After:
    Config = NoConfig
    card = StepCard("after", "1", role="refiner", supervision=(), gives=("labels",), takes=("mined",))
    def __init__(self, config): self.config = config
    def fit(self, train, given, ctx): return self.restore(ctx)
    def restore(self, ctx):
        return lambda images, tags, given, want: [Outputs(labels=g.mined) for g in given]
'''
PICKY = ("--plugin", "picky.py", "--method", "picky")


def test_a_strangers_step_refuses_a_data_set_or_a_filter_by_ready_on() -> None:
    Path("picky.py").write_text(STEP)
    assert run(*PICKY, "--dry-run").exit_code == 0
    assert "not with exact on shapes [picky]" in refused(*PICKY, "--filter", "exact")
    assert "not with lattice on shapes" in refused(*PICKY, "-o", "shapes.classes=4")


# ---------------------------------------------------------------------------------------------- metrics


def test_a_metric_of_mined_labels_judges_the_cells_that_have_some_and_breaks_no_other() -> None:
    Path("picky.py").write_text(STEP)
    done = run(*PICKY, "--metrics", "sparse", "--stages", "pseudo,seg", "--limit", "4", "-q", "--json")
    assert done.exit_code == 0, done.output
    assert '"sparse"' in done.stdout or "share" in done.stdout


def test_a_metric_that_fits_no_cell_is_refused_with_the_way_out() -> None:
    Path("picky.py").write_text(STEP)
    said = refused(*PICKY, "--metrics", "sparse", "--stages", "seg")
    assert "metric sparse needs mined, which no row of this run has" in said
    assert "a stage with tags given (seed, pseudo)" in said


def test_a_step_that_takes_mined_labels_is_skipped_where_no_tags_are_given() -> None:
    Path("picky.py").write_text(STEP)
    words = ["--plugin", "picky.py", "--method", "picky > after", "--stages", "pseudo,seg"]
    shown = run(*words, "--dry-run").output
    assert re.search(r"pseudo .* missing ", shown)
    assert re.search(
        r"seg .* skip \(after takes mined labels, which are made only where tags are given\)", shown
    )
    done = run(*words, "--limit", "2", "-q")
    assert done.exit_code == 0, done.output


# ------------------------------------------------------------------------------------------------- disk


def settings(*methods: str, **options: Any) -> Settings:
    every = ("cam", "rrm", "full", "segmenter", "layercam")
    return Settings(
        methods=methods, datasets=("shapes",), runs=Path("runs"), device="cpu", limit=6,
        stages=("seed", "pseudo", "seg", "seg+crf", "seg+ms"), dataset_options={"shapes": {"preset": "tiny"}},
        options={name: {"preset": "tiny", **options.get(name, {})} for name in every},
    )  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        settings("cam+crf"),
        settings("layercam", layercam={"scales": [2.0]}),
        settings("rrm", rrm={"head_kind": "dilated", "test_scales": [0.5, 1.5]}),
        settings("cam-2step"),
        settings("full"),
    ],
    ids=lambda asked: asked.methods[0],
)
def test_the_disk_that_is_told_is_an_upper_bound_and_near_what_is_written(asked: Settings) -> None:
    from wsssbench.running.engine import Engine
    from wsssbench.running.screen.progress import Progress
    from wsssbench.running.step_runner import StepRunner

    cells = make_plan(asked, Plugins())
    told = sum(room.bytes for room in rooms(cells))
    assert Engine(StepRunner(resolve_hardware(asked), 6, Progress(quiet=True))).run(cells) == 0
    files = [p for kind in ("maps", "probs") for p in Path("runs").rglob(f"artifacts/*/{kind}/*.npz")]
    written = sum(path.stat().st_size for path in files)
    assert 0.3 * told < written <= told


class Coco:
    """The card of coco14 and as many ids; no image is looked at."""

    card = DatasetCard(
        name="coco14", version="1", class_names=tuple(f"c{k}" for k in range(80)), splits=("train", "val"),
        fit_split="train", label_split="train", eval_split="val", label_source="json", licence="", source="",
        image_px=640,
    )  # fmt: skip

    def __init__(self, config: Any, seed: int) -> None: ...

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(f"{split}{n}" for n in range(40137 if split == "val" else 82081))

    def tags(self, id: str) -> Any:
        return np.arange(80) < 3

    def fingerprint(self, split: str) -> str:
        return split


def test_the_probabilities_of_coco_are_told_before_they_fill_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsssbench.planning.plan.open_dataset", lambda *asked: Coco(None, 0))
    shares = {}
    for kind in ("detail", "dilated"):
        options = {"rrm": {"backbone": "small", "output_stride": 8, "head_kind": kind}}
        asked = Settings(("rrm",), ("coco14",), stages=("seg", "seg+crf"), options=options, device="cpu")
        cells = make_plan(asked, Plugins(), Hardware("cpu", "fp32", "lattice"))
        (room,) = rooms(cells)  # of both stages together: they share the probabilities
        assert room.what == "probabilities of rrm on val"
        shares[kind] = room.bytes / 1e9
    typical = 40137 * 81 * 2 * (640 * 480) / 1e9  # bytes of float16 for images of 640 x 480, at stride 1
    assert shares["detail"] == pytest.approx(typical / 16 * 640 / 480, rel=0.01)  # squares: an upper bound
    assert shares["dilated"] == pytest.approx(shares["detail"] / 4, rel=0.01)
    assert 125 < shares["detail"] < 170


def test_a_dry_run_tells_the_disk_and_warns_where_less_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("--method", "cam", "--stages", "pseudo", "--dry-run")
    assert re.search(
        r"\ndisk: at most [\d.]+ kB for maps and probabilities \(maps of cam on train-tags\)", done.output
    )
    assert "warning" not in done.output
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 10}))
    assert "warning: 10 B are free in" in run("--method", "cam", "--dry-run").output
    assert "disk" not in run("--method", "constant", "--dry-run").output


def test_a_filter_that_takes_hours_for_an_image_is_told() -> None:
    exact = Hardware("cpu", "fp32", "exact")
    (said,) = slow_filter(Coco.card, exact)
    assert "one image of coco14 (640 px) takes an hour or more; lattice takes seconds" in said
    assert slow_filter(Coco.card, replace(exact, device="cuda")) == []
    assert slow_filter(Coco.card, replace(exact, filter_backend="lattice")) == []
    assert slow_filter(replace(Coco.card, image_px=96), exact) == []


def test_scales_keep_probabilities_alone_and_mined_labels_need_tags() -> None:
    class Mined:
        name, needs, better, unit = "m", "mined", "higher", ""

    metric: Any = Mined()
    assert applicable([metric], ["mined"], STAGES["pseudo"]) == (metric,)
    assert applicable([metric], ["mined"], STAGES["seg"]) == ()
