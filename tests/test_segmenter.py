"""The second step: its head, its losses, its check for collapse, and the recipes that end with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wsssbench.errors import TrainingFailed, WsssError
from wsssbench.machine.hardware import resolve_hardware
from wsssbench.masks import argmax_labels, read_labels, write_labels
from wsssbench.nets.heads import rescaled, resize
from wsssbench.nets.segment_heads import AsppHead, HeadPlan, segment_head
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import make_plan, open_dataset
from wsssbench.planning.settings import Settings
from wsssbench.plugins.options import build_config, key_options
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import read_record
from wsssbench.running.context import RunContext
from wsssbench.running.engine import Engine
from wsssbench.running.screen.progress import Progress
from wsssbench.running.step_runner import StepRunner
from wsssbench.testing.tiny import TinyDataset, made_up_outputs
from wsssbench.train import Schedule
from wsssbench.training.crops import Batch, CropRule
from wsssbench.types import Outputs, View
from wsssbench_methods import segment_training
from wsssbench_methods.crf import CrfConfig, CrfPredictor, tagged_probs
from wsssbench_methods.full import Full, FullConfig
from wsssbench_methods.rrm.losses import EnergyPlan, balanced_cross_entropy
from wsssbench_methods.segment_training import (
    LEAST_STEPS,
    WINDOW,
    CollapseCheck,
    SegmentPlan,
    cross_entropy,
    multi_scale_logits,
    segment_losses,
)
from wsssbench_methods.segmenter import DeepLab, SegmenterConfig

TRAINED = ("cam", "rrm", "segmenter", "full")
PLUGINS = Plugins()


def run(runs: Path, *methods: str, stages: tuple[str, ...] = ("seg",), **options: Any) -> list[Cell]:
    """The cells of `methods` on the smallest `shapes`, run; `options` go to the segmenter."""
    given: dict[str, Any] = {name: {"preset": "tiny"} for name in TRAINED}
    given["segmenter"] |= options
    settings = Settings(
        methods=methods,
        datasets=("shapes",),
        stages=stages,
        runs=runs,
        device="cpu",
        limit=8,
        options=given,
        dataset_options={"shapes": {"preset": "tiny"}},
    )
    cells = make_plan(settings, PLUGINS)
    Engine(StepRunner(resolve_hardware(settings), settings.limit, Progress(quiet=True))).run(cells)
    return cells


def context(folder: Path, step: str = "step") -> RunContext:
    folder.mkdir(parents=True, exist_ok=True)
    card = TinyDataset.card
    return RunContext("cpu", "fp32", "lattice", card, folder, None, 0, step, say=lambda text: None)


def tiny_config(kind: type, **options: Any) -> Any:
    return build_config("x", kind, {"preset": "tiny", **options})


def batch_of(labels: Tensor, seed: int = 5) -> Batch:
    """A batch of noise with these labels (B, S, S)."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 3, *labels.shape[1:]), generator=draw, dtype=torch.uint8)
    return Batch(images, torch.ones_like(labels, dtype=torch.bool), torch.empty(0), labels, ("a",))


# ------------------------------------------------------------------------------------------------- the head


def test_aspp_sums_four_convolutions_of_dilation_6_12_18_24() -> None:
    head, features = segment_head(HeadPlan("aspp", 99, 12), 5, 3), torch.rand(2, 5, 9, 7)
    assert isinstance(head, AsppHead)
    expected = sum(
        F.conv2d(features, conv.weight, conv.bias, padding=rate, dilation=rate)
        for conv, rate in zip(head.branches, (6, 12, 18, 24), strict=True)
    )
    logits = head(features, features)
    assert logits.shape == (2, 3, 9, 7)
    torch.testing.assert_close(logits, expected)
    assert not head(torch.zeros(1, 5, 9, 7), features).any()  # it starts without a preference
    assert sum(p.numel() for p in head.parameters()) == 4 * (5 * 3 * 9 + 3)


# ----------------------------------------------------------------------------------------------- the losses


def colours(images: Tensor) -> Tensor:
    """A network whose logits are the colours of every fourth pixel."""
    return images.float()[..., ::4, ::4] / 64


def test_one_scale_gives_one_loss() -> None:
    batch = batch_of(torch.zeros(2, 16, 16, dtype=torch.uint8))
    (only,) = multi_scale_logits(colours, batch.images, (1.0,))
    torch.testing.assert_close(only, colours(batch.images))


def test_several_scales_are_judged_one_by_one_and_by_their_maximum() -> None:
    labels = torch.randint(0, 3, (2, 16, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    labels[:, :4] = 255
    batch = batch_of(labels)
    every = multi_scale_logits(colours, batch.images, (0.5, 1.0, 0.75))
    expected = [colours(rescaled(batch.images, s)) for s in (1.0, 0.5, 0.75)]
    maximum = torch.stack([resize(logits, (4, 4)) for logits in expected]).amax(0)
    for found, wanted in zip(every, [*expected, maximum], strict=True):
        torch.testing.assert_close(found, wanted)
    plan = SegmentPlan(Schedule(1, 0.1), CropRule(16), 2, scales=(0.5, 1.0, 0.75))
    by_hand = sum(
        F.cross_entropy(resize(logits, (16, 16)), labels.long(), ignore_index=255) for logits in every
    )
    losses = segment_losses(every, batch, plan, context(Path("unused").parent))
    assert losses["total"] == pytest.approx(float(by_hand))


def test_the_joint_loss_adds_the_energy_of_unlabelled_pixels_to_a_balanced_cross_entropy() -> None:
    labels = torch.full((2, 16, 16), 255, dtype=torch.uint8)
    labels[:, :4], labels[:, 4:8] = 0, 1
    batch = batch_of(labels)
    logits = colours(batch.images).requires_grad_()
    energy = EnergyPlan(1e-7, 0.5, 100.0, 15.0, "published")
    plan = SegmentPlan(Schedule(1, 0.1), CropRule(16), 2, energy=energy)
    losses = segment_losses([logits], batch, plan, context(Path("unused").parent))
    assert losses["ce"] == balanced_cross_entropy(resize(logits, (16, 16)), labels)
    assert losses["energy"] < 0  # as published: minus the agreement of like neighbours
    assert losses["total"] == losses["ce"] + losses["energy"]
    losses["energy"].backward()
    assert logits.grad is not None
    assert logits.grad[:, :, 3:].abs().max() > 0


def test_a_batch_without_labels_costs_nothing_and_is_no_error() -> None:
    logits = torch.rand(1, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("scales", [(0.5,), (1.0, 0.0), (1.0, -1.0)])
def test_scales_of_the_loss_are_positive_and_hold_one(scales: tuple[float, ...]) -> None:
    with pytest.raises(WsssError, match="loss_scales"):
        build_config("segmenter", DeepLab, {"loss_scales": list(scales)})


# ------------------------------------------------------------------------------------------------- collapse


def told(check: CollapseCheck, said: list[int], labels: list[int], first: int = 0, last: int = 400) -> int:
    """Steps from `first` on in which the network says `said` and is to learn `labels`; how far it came."""
    logits = torch.zeros(1, 3, 1, len(said))
    logits[0, said, 0, range(len(said))] = 1
    for step in range(first, last):
        check.note(logits, torch.tensor([[labels]], dtype=torch.uint8))
        check({}, step)
    return last


def test_one_label_everywhere_is_a_collapse_in_the_last_quarter_alone() -> None:
    check = CollapseCheck(400)
    with pytest.raises(TrainingFailed, match="collapsed: the last 20 batches are background") as caught:
        told(check, [0, 0], [0, 1, 255])
    assert caught.value.where == "step 300"
    assert caught.value.code == 1


@pytest.mark.parametrize(
    ("said", "labels"), [([0, 1], [0, 1]), ([0, 0], [0, 0]), ([1, 1], [1, 255])], ids=str
)
def test_two_labels_and_data_of_one_label_are_no_collapse(said: list[int], labels: list[int]) -> None:
    assert told(CollapseCheck(400), said, labels) == 400


def test_batches_that_are_of_one_label_by_turns_are_no_collapse() -> None:
    check = CollapseCheck(400)
    for step in range(400):
        assert told(check, [step % 2] * 2, [0, 1], step, step + 1)


@pytest.mark.parametrize("said", [[0, 0], [0, 1]], ids=str)
def test_what_a_resumed_training_must_know_fits_into_a_checkpoint(said: list[int], tmp_path: Path) -> None:
    from wsssbench.train import load_checkpoint, save_checkpoint

    check, again, net = CollapseCheck(400), CollapseCheck(400), torch.nn.Linear(1, 1)
    told(check, said, [0, 1], last=299)
    save_checkpoint(tmp_path / "net.pt", net, None, 299, check)
    load_checkpoint(tmp_path / "net.pt", net, None, again)
    if said == [0, 0]:
        with pytest.raises(TrainingFailed, match="collapsed"):
            told(again, said, [0, 1], 299)
    else:
        assert told(again, said, [0, 1], 299) == 400
    assert again.noted > 299


@pytest.mark.parametrize(("steps", "warnings"), [(WINDOW - 1, 0), (40, 1), (LEAST_STEPS - 1, 1)])
def test_a_run_too_short_to_judge_is_not_judged(
    steps: int, warnings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(CollapseCheck(steps), [0, 0], [0, 1], last=steps) == steps
    said = capsys.readouterr().err
    assert said.count("the last 20 batches are background everywhere") == said.count("\n") == warnings


def test_labels_that_all_abstain_stop_the_training() -> None:
    with pytest.raises(TrainingFailed, match="no pixel of the first 20 batches has a label"):
        told(CollapseCheck(1000), [0, 1], [255, 255])


def test_a_collapsed_segmenter_is_a_failed_cell_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mute(self: Any, features: Tensor, pixels: Tensor) -> Tensor:
        return features[:, :4] * 0 + self.last.bias[:4, None, None]  # biases begin with 0

    monkeypatch.setattr("wsssbench.nets.segment_heads.DetailHead.forward", mute)
    monkeypatch.setattr(segment_training, "WINDOW", 2)
    monkeypatch.setattr(segment_training, "LEAST_STEPS", 8)
    data = open_dataset("shapes", PLUGINS, Settings(dataset_options={"shapes": {"preset": "tiny"}}), 0)
    for id in data.ids("train"):
        write_labels(tmp_path / "truth" / f"{id}.png", data.mask(id))
    (cell,) = run(tmp_path / "runs", f"import:{tmp_path / 'truth'} > segmenter", steps=8, lr=1e-12)
    record = read_record(cell.folder)
    assert record.status == "failed"
    assert "the segmentation collapsed: the last 2 batches are background everywhere" in record.reason


def test_a_segmenter_that_diverges_is_a_failed_cell(tmp_path: Path) -> None:
    (cell,) = run(tmp_path, "rrm > segmenter", steps=4, lr=1e30, optimizer="sgd", clip=0.0)
    record = read_record(cell.folder)
    assert record.status == "failed"
    assert "not finite" in record.reason


# ---------------------------------------------------------------------------------------- the CRF between


def test_the_crf_prefers_probabilities_and_keeps_background_and_tags_alone() -> None:
    draw = np.random.default_rng(3)
    probs = draw.dirichlet(np.ones(4), (5, 6)).transpose(2, 0, 1).astype(np.float32)
    kept, labels = tagged_probs(probs, np.array([False, True, False]))
    assert labels.tolist() == [0, 2]
    np.testing.assert_allclose(kept.sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(kept[1] / kept[0], probs[2] / probs[0], rtol=1e-5)
    every, labels = tagged_probs(probs, None)
    assert labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(every, probs, atol=1e-4)


def test_pixels_whose_kept_planes_are_empty_stay_finite() -> None:
    probs = np.zeros((3, 1, 1), np.float32)
    probs[2] = 1
    kept, _ = tagged_probs(probs, np.array([True, False]))
    np.testing.assert_allclose(kept, 0.5)


def test_the_crf_gives_tagged_labels_from_probabilities(tmp_path: Path) -> None:
    data = TinyDataset()
    image, _, tags = data.scene("train_0")
    given = made_up_outputs(data, "train_0", ("probs", "maps"))
    assert given.probs is not None
    foreign = dataclasses.replace(given, probs=given.probs[[0, 2, 1]])  # the other class is the likelier
    predict = CrfPredictor(CrfConfig(), context(tmp_path))
    pixels = [torch.from_numpy(image.transpose(2, 0, 1).copy())]
    (free,) = predict(pixels, None, [foreign], frozenset({"labels"}))
    (bound,) = predict(pixels, tags[None], [foreign], frozenset({"labels"}))
    assert free.labels is not None
    assert bound.labels is not None
    assert tags.tolist() == [True, False]
    assert set(np.unique(free.labels)) == {0, 2}
    assert set(np.unique(bound.labels)) <= {0, 1}


# -------------------------------------------------------------------------------------------------- recipes


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Cell]:
    """(method, stage) -> cell of the recipes, all in one run."""
    methods = ("cam+crf", "cam-2step", "rrm-2step")
    cells = run(tmp_path_factory.mktemp("second"), *methods, stages=("seed", "pseudo", "seg"))
    assert [read_record(cell.folder).reason for cell in cells] == [""] * 9
    return {(cell.trial.method, cell.stage.name): cell for cell in cells}


def test_a_second_step_shares_its_first_steps_with_the_recipe_without_it(ran: dict[Any, Cell]) -> None:
    short, whole = ran["cam+crf", "seg"].trial.steps, ran["cam-2step", "seg"].trial.steps
    assert [p.key for p in short] == [p.key for p in whole[:2]]
    folders = {p.name.rpartition("-")[0] for p in whole[0].folder.parent.iterdir()}
    assert folders == {"cam", "crf", "rrm", "segmenter", "classifier"}
    assert len(list(whole[0].folder.parent.glob("cam-*"))) == 1
    assert len(list(whole[0].folder.parent.glob("crf-*"))) == 2  # of cam's maps, and of rrm's probabilities
    assert len(list(whole[0].folder.parent.glob("classifier-*"))) == 1  # the same start for all


def test_pseudo_judges_the_labels_that_the_second_step_learns_from(ran: dict[Any, Cell]) -> None:
    one, two = (read_record(ran[m, "pseudo"].folder).scores for m in ("cam+crf", "cam-2step"))
    assert one == two
    assert read_record(ran["rrm-2step", "pseudo"].folder).scores != two


def test_the_second_step_is_judged_by_its_own_segmentation(ran: dict[Any, Cell]) -> None:
    record = read_record(ran["cam-2step", "seg"].folder)
    assert record.identity.supervision == ("tags",)
    assert [step.name for step in record.identity.recipe] == ["cam", "crf", "segmenter"]
    assert record.timing["predict_images"] == 8
    folder = ran["cam-2step", "seg"].trial.steps[2].folder
    assert len((folder / "log.jsonl").read_text().splitlines()) == 2  # steps of the preset `tiny`
    assert (folder / "ckpt" / "segmenter.pt").exists()


def test_the_crf_after_rrm_refines_its_probabilities_and_the_one_after_cam_its_maps(
    ran: dict[Any, Cell],
) -> None:
    assert [p.takes for p in ran["rrm-2step", "seg"].trial.steps] == [(), ("probs",), ()]
    assert [p.takes for p in ran["cam-2step", "seg"].trial.steps] == [(), ("maps",), ()]
    first, crf, _ = ran["rrm-2step", "pseudo"].trial.steps
    trial = ran["rrm-2step", "pseudo"].trial
    folder = first.folder / "artifacts" / "train-tags"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["maps", "probs"]  # maps for `seed`
    for id in trial.dataset.ids("train")[:8]:
        probs = np.load(folder / "probs" / f"{id}.npz")["probs"].astype(np.float32)
        image, tags = trial.dataset.image(id), trial.dataset.tags(id)
        pixels = [torch.from_numpy(image.transpose(2, 0, 1).copy())]
        ctx = dataclasses.replace(context(crf.folder), card=trial.dataset.card)
        predict = CrfPredictor(crf.step.config, ctx)
        (expected,) = predict(pixels, tags[None], [Outputs(probs=probs)], frozenset({"labels"}))
        found = read_labels(crf.folder / "artifacts" / "train-tags" / "labels" / f"{id}.png")
        np.testing.assert_array_equal(found, expected.labels)
        assert set(np.unique(found)) <= {0, *(np.flatnonzero(tags) + 1)}


# ------------------------------------------------------------------------------------- what it starts from


def fitted(step: Any, folder: Path, given: Any) -> dict[str, Tensor]:
    """The weights after fitting on the made-up data; all under one step name, so that seeds are equal."""
    data = TinyDataset()
    view = View(data, "train", step.card.supervision)
    predictor = step.fit(view, given, context(folder / "step"))
    assert predictor([torch.zeros(3, 24, 40, dtype=torch.uint8)], None, [Outputs()], frozenset({"labels"}))
    state: dict[str, Tensor] = predictor.net.state_dict()
    return state


def test_a_segmenter_on_true_masks_is_full(tmp_path: Path) -> None:
    truth = {id: made_up_outputs(TinyDataset(), id, ("labels",)) for id in TinyDataset().ids("train")}
    ceiling = fitted(Full(tiny_config(Full)), tmp_path / "full", {})
    second = fitted(DeepLab(tiny_config(DeepLab)), tmp_path / "second", truth)
    assert ceiling.keys() == second.keys()
    assert all(torch.equal(ceiling[key], second[key]) for key in ceiling)


def test_full_has_the_options_that_it_had() -> None:
    names = set(key_options(FullConfig()))
    assert {"steps", "batch", "lr", "head_factor", "head_kind", "classifier_steps", "backbone"} < names
    own = {f.name for f in dataclasses.fields(SegmenterConfig)} - {
        f.name for f in dataclasses.fields(FullConfig)
    }
    assert own == {
        "loss", "loss_scales", "energy_weight", "energy_scale", "energy_sigma_xy", "energy_sigma_rgb",
        "gradient",
    }  # fmt: skip
    assert FullConfig().classifier_steps > 0


def test_without_steps_on_tags_it_sees_no_tags_and_trains_no_classifier(tmp_path: Path) -> None:
    step = DeepLab(tiny_config(DeepLab, classifier_steps=0))
    assert step.card.supervision == ()
    assert DeepLab(tiny_config(DeepLab)).card.supervision == ("tags",)
    truth = {id: made_up_outputs(TinyDataset(), id, ("labels",)) for id in TinyDataset().ids("train")}
    fitted(step, tmp_path, truth)
    assert [p.name for p in tmp_path.iterdir()] == ["step"]


def test_weights_are_needed_where_batch_normalisation_is_frozen(tmp_path: Path) -> None:
    step = DeepLab(build_config("segmenter", DeepLab, {"preset": "paper"}))
    with pytest.raises(WsssError, match="resnet101 keeps its BatchNorm frozen") as caught:
        step.fit(View(TinyDataset(), "train", ()), {}, context(tmp_path))  # type: ignore[arg-type]
    assert "--weights segmenter=FILE" in caught.value.hint
    with pytest.raises(WsssError, match="resnet101 keeps its BatchNorm frozen"):  # while planning already
        step.ready()


def test_pretraining_is_what_the_user_says_of_the_file_and_none_without_one(tmp_path: Path) -> None:
    assert DeepLab(SegmenterConfig()).card.pretraining == "none"
    (tmp_path / "w.pth").write_bytes(b"x")
    seen = [
        DeepLab(SegmenterConfig(weights=str(tmp_path / "w.pth"), pretraining=name)).card.pretraining
        for name in ("imagenet", "coco")
    ]
    assert seen == ["imagenet", "coco"]


def test_the_paper_preset_is_deeplab_v2() -> None:
    c = build_config("segmenter", DeepLab, {"preset": "paper"})
    plan = DeepLab(c)._segment_plan()
    assert (c.backbone, c.output_stride, c.head_kind, c.head_dilation) == ("resnet101", 8, "aspp", 12)
    assert plan.scales == (1.0, 0.75, 0.5)
    assert plan.schedule == Schedule(20000, 2.5e-4, 10.0, 5e-4, "sgd", 0.9, clip=0.0, bias_factor=2.0)
    assert (plan.batch, plan.crop, plan.energy) == (10, CropRule(321, (0.5, 1.5)), None)
    assert DeepLab(build_config("segmenter", DeepLab, {"preset": "shapes"}))._segment_plan().scales == (1.0,)


def test_a_joint_second_step_with_aspp_and_scales_trains_and_is_restored(tmp_path: Path) -> None:
    config = tiny_config(DeepLab, loss="joint", loss_scales=[1.0, 0.5], head_kind="aspp", head_dilation=2)
    truth = {id: made_up_outputs(TinyDataset(), id, ("mined",)).mined for id in TinyDataset().ids("train")}
    given = {id: Outputs(labels=mined) for id, mined in truth.items()}
    state = fitted(DeepLab(config), tmp_path, given)
    again: Any = DeepLab(config).restore(context(tmp_path / "step"))
    assert all(torch.equal(state[key], value) for key, value in again.net.state_dict().items())
    lines = [json.loads(line) for line in (tmp_path / "step" / "log.jsonl").read_text().splitlines()]
    assert set(lines[-1]["losses"]) == {"total", "ce", "energy"}


def test_labels_that_are_given_with_tags_are_restricted_to_them(tmp_path: Path) -> None:
    truth = {id: made_up_outputs(TinyDataset(), id, ("labels",)) for id in TinyDataset().ids("train")}
    step = DeepLab(tiny_config(DeepLab))
    predictor = step.fit(View(TinyDataset(), "train", ("tags",)), truth, context(tmp_path / "step"))  # type: ignore[arg-type]
    image = torch.randint(0, 256, (3, 24, 40), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    tags = np.array([[False, True]])
    (found,) = predictor([image], tags, [Outputs()], frozenset({"labels", "probs"}))
    assert found.labels is not None
    assert found.probs is not None
    assert set(np.unique(found.labels)) <= {0, 2}
    free = argmax_labels(found.probs, (24, 40), tags[0])
    assert np.mean(free == found.labels) > 0.9  # logits and probabilities are resized apart


def test_maps_alone_cannot_be_learned_from() -> None:
    settings = Settings(methods=("cam > segmenter",), datasets=("shapes",), device="cpu")
    with pytest.raises(WsssError, match="segmenter needs labels from the step before it"):
        make_plan(settings, PLUGINS)
