"""RRM's variants: the traps of the released code one by one, the controls, what a fitted network gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wsssbench.errors import WsssError
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet, multi_scale_cam
from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.ops.energy import dense_energy
from wsssbench.plugins.options import build_config, key_options
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.train import make_optimizer
from wsssbench.training.crops import MEAN_COLOUR, Batch, CropBatches, CropRule
from wsssbench.types import View
from wsssbench_methods.classifier import trained_classifier
from wsssbench_methods.rrm.joint import joint_losses, mine, shares, truncated
from wsssbench_methods.rrm.reliable_rule import ReliableRule
from wsssbench_methods.rrm.rrm_options import TRAPS, RrmConfig
from wsssbench_methods.rrm.step import Rrm, RrmPredictor, several_views

TINY = {"preset": "tiny"}


def config(**options: Any) -> RrmConfig:
    made = build_config("rrm", Rrm, {**TINY, **options})
    assert isinstance(made, RrmConfig)
    return made


def context(workdir: Path) -> RunContext:
    return RunContext("cpu", "fp32", "lattice", TinyDataset.card, workdir, None, 3, "rrm")


def joint_net(classes: int = 2) -> JointNet:
    torch.manual_seed(1)
    return JointNet(Classifier(Backbone("small", 8), classes, 0.0), HeadPlan("detail", 16, 1))


def batch(side: int = 32, valid: int = 32) -> Batch:
    """One random image of two tags, of which `valid` columns are real."""
    draw = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (1, 3, side, side), generator=draw, dtype=torch.uint8)
    real = torch.zeros(1, side, side, dtype=torch.bool)
    real[..., :valid] = True
    return Batch(images, real, torch.ones(1, 2), None, ("a",))


# ------------------------------------------------------------------------------------------------ options


def test_faithful_switches_on_every_trap_and_fixed_none() -> None:
    assert not any(getattr(config(), trap) for trap in TRAPS)
    assert all(getattr(config(variant="faithful"), trap) for trap in TRAPS)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_set_by_hand_outranks_the_variant_and_the_key_says_what_ran(trap: str) -> None:
    alone, without = config(**{trap: True}), config(variant="faithful", **{trap: False})
    assert [name for name in TRAPS if getattr(alone, name)] == [trap]
    assert [name for name in TRAPS if not getattr(without, name)] == [trap]
    assert key_options(alone)[trap] is True
    assert key_options(config())[trap] is False


def test_momentum_from_decay_takes_the_place_of_momentum() -> None:
    c = config(momentum_from_decay=True, weight_decay=1e-5, optimizer="sgd")
    assert c.joint_schedule().momentum == 1e-5
    assert config(optimizer="sgd").joint_schedule().momentum == 0.9


def test_the_optimizer_of_the_joint_steps_leaves_the_classifier_as_it_is() -> None:
    plain, sgd = config(), config(optimizer="sgd", momentum=0.0)
    assert Rrm(plain)._plan == Rrm(sgd)._plan
    assert sgd.joint_schedule().optimizer == "sgd"
    assert Rrm(config(classifier_optimizer="sgd"))._plan != Rrm(plain)._plan


@pytest.mark.parametrize("preset", ["paper", "paper-from-init", "small", "shapes", "mobilenet", "none"])
def test_every_preset_is_made_of_options_that_exist(preset: str) -> None:
    c = build_config("rrm", Rrm, {"preset": preset})
    assert (c.variant == "faithful") == preset.startswith("paper")


def test_the_released_rates_are_those_of_the_groups_and_flat_from_init() -> None:
    net = joint_net()
    paper, init = (build_config("rrm", Rrm, {"preset": p}) for p in ("paper", "paper-from-init"))
    groups = make_optimizer(net.backbone, [net.head, net.segment], paper.joint_schedule()).param_groups
    assert [g["lr"] for g in groups] == pytest.approx([7e-4, 1.4e-3, 7e-3, 1.4e-2])
    assert [g["weight_decay"] for g in groups] == [1e-5, 0, 1e-5, 0]
    assert all(g["momentum"] == 1e-5 for g in groups)
    assert (Rrm(init)._plan.schedule.optimizer, Rrm(init)._plan.schedule.momentum) == ("sgd", 5e-4)
    flat = make_optimizer(net.backbone, [net.head, net.segment], init.joint_schedule()).param_groups
    assert [g["lr"] for g in flat] == [7e-4, 7e-4]


def test_biases_with_a_rate_of_their_own_are_all_there_and_do_not_decay() -> None:
    net = joint_net()
    groups = make_optimizer(
        net.backbone, [net.head, net.segment], config(bias_factor=2.0).joint_schedule()
    ).param_groups
    trained = [p for p in net.parameters() if p.requires_grad]
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, trained))
    assert [g["weight_decay"] == 0 for g in groups] == [False, True, False, True]


# -------------------------------------------------------------------------------------------------- crops


def factors(rule: CropRule, step: int) -> list[float]:
    """The scale of each image of a batch whose crops hold the whole image."""
    view = View(TinyDataset(), "train", ("tags",))
    pixels = {s.id: s.image.shape[0] * s.image.shape[1] for s in view}
    made = CropBatches(view, rule, 3, 7)(step)
    counts = made.valid.flatten(1).sum(1).tolist()
    return [(count / pixels[id]) ** 0.5 for count, id in zip(counts, made.ids, strict=True)]


def test_one_scale_is_drawn_for_a_batch_and_another_for_the_next() -> None:
    scales = {"crop": 96, "scale_low": 0.4, "scale_high": 1.3}
    batches = [factors(config(variant="faithful", **scales).crop_rule(), step) for step in range(4)]
    assert all(max(one) - min(one) < 0.05 for one in batches)  # sizes are whole pixels
    means = [sum(one) / len(one) for one in batches]
    assert max(means) - min(means) > 0.1
    own = [factors(config(**scales).crop_rule(), step) for step in range(4)]
    assert all(max(one) - min(one) > 0.05 for one in own)


def test_padding_can_be_black_and_jitter_changes_colours_alone() -> None:
    view = View(TinyDataset(), "train", ("tags", "masks"))
    plain = CropBatches(view, config(crop=80, padding="black").crop_rule(), 2, 5)(0)
    other = CropBatches(view, CropRule(80, (0.7, 1.3), jitter=(0.3, 0.3, 0.3, 0.1)), 2, 5)(0)
    assert (plain.images.permute(1, 0, 2, 3)[:, ~plain.valid] == 0).all()
    assert (other.images.permute(1, 0, 2, 3)[:, ~other.valid] == torch.tensor(MEAN_COLOUR)[:, None]).all()
    assert other.labels is not None
    assert (other.labels[other.valid] != 255).any()
    again = CropBatches(view, CropRule(80, (0.7, 1.3), jitter=(0.3, 0.3, 0.3, 0.1)), 2, 5)(0)
    assert torch.equal(other.images, again.images)
    assert not torch.equal(other.images, CropBatches(view, CropRule(80, (0.7, 1.3)), 2, 5)(0).images)


# ------------------------------------------------------------------------------------------------- losses


def test_truncated_colours_lose_at_most_one_and_padding_becomes_the_cut_mean() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    valid[..., -1:] = False
    cut = truncated(Batch(every, valid, torch.ones(1, 2), None, ("a",)), MEAN_COLOUR)
    lost = (every.int() - cut.int()).permute(1, 0, 2, 3)[:, valid]
    assert set(lost.flatten().tolist()) == {0, 1}
    assert cut[0, :, 0, -1].tolist() == [123, 116, 103]
    assert truncated(Batch(every, valid, torch.ones(1, 2), None, ("a",)), (0, 0, 0))[0, :, 0, -1].sum() == 0


def test_a_recomputed_scale_matters_for_odd_sizes_only() -> None:
    draw = torch.Generator().manual_seed(4)

    def energies(side: int) -> list[float]:
        probs = torch.rand(1, 3, side, side, generator=draw).softmax(1)
        image = torch.rand(1, 3, side, side, generator=draw) * 255
        given = (probs, image, torch.ones(1, side, side), torch.full((1, side, side), 255))
        return [float(dense_energy(*given, weight=1.0, recompute_scale=r)) for r in (False, True)]

    even, odd = energies(32), energies(33)
    assert even[0] == pytest.approx(even[1], rel=1e-6)
    assert odd[0] != pytest.approx(odd[1], rel=1e-4)


def test_a_recomputed_scale_is_the_ratio_of_the_sizes() -> None:
    plane = torch.rand(1, 1, 33, 33)
    by_ratio = interpolate(plane, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
    assert torch.equal(by_ratio, interpolate(plane, size=(16, 16), mode="bilinear"))


@pytest.mark.parametrize("label_padding", [False, True])
def test_padding_is_mined_only_where_the_trap_is_on(tmp_path: Path, label_padding: bool) -> None:
    some, c = batch(valid=20), config(label_padding=label_padding)
    cam = torch.zeros(1, 2, 4, 4)
    cam[0, 0, 1, 1], cam[0, 1, 2, 0] = 1.0, 1.0
    labels = mine(cam, some.images, some, c, context(tmp_path))
    assert (labels[~some.valid] != 255).any() == label_padding


def test_without_agreement_the_cam_alone_decides(tmp_path: Path) -> None:
    some, c = batch(), config(agreement=False, fraction=0.5)
    assert not ReliableRule.of(c).agreement
    ramp = torch.linspace(0, 1, 32).repeat(32, 1)
    cam = torch.stack([ramp, torch.zeros(32, 32)])[None]
    one = Batch(some.images, some.valid, torch.tensor([[1.0, 0]]), None, ("a",))
    labels = mine(cam, some.images, one, c, context(tmp_path))[0]
    columns = [set(labels[:, x].tolist()) for x in range(32)]
    assert columns[0] == {0}  # CAM 0: background
    assert columns[-1] == {1}
    assert all(len(found) == 1 for found in columns)  # random colours do not matter
    assert sum(found == {1} for found in columns) == 13  # above the 15th of the 28 columns over 0.1


@pytest.mark.parametrize("weight", [0.0, 1e-7])
def test_an_energy_of_weight_zero_is_not_computed(tmp_path: Path, weight: float) -> None:
    ctx = context(tmp_path)
    values = joint_losses(joint_net(), batch(), config(energy_weight=weight), ctx)
    assert ("energy" in values) == bool(weight)
    parts = sum(v.item() for k, v in values.items() if k in ("cls", "ce", "energy"))
    assert values["total"].item() == pytest.approx(parts, rel=1e-5)
    assert ("energy" in ctx.timer.seconds) == bool(weight)


def test_zero_classifier_steps_ask_for_a_trained_classifier(tmp_path: Path) -> None:
    c = config(classifier_steps=0)
    view = View(TinyDataset(), "train", ("tags",))
    with pytest.raises(WsssError, match="needs a file that holds a trained classifier"):
        trained_classifier(Rrm(c)._plan, "", view, context(tmp_path))


# ------------------------------------------------------------------------------------------- predictions


def test_views_of_one_scale_are_the_network_and_of_several_their_mean() -> None:
    net = joint_net().eval()
    stack = batch().images
    with torch.inference_mode():
        tags, raw, logits = net.joint(stack)
        scores, maps, probs, votes = several_views(net, stack, (1.0,), flip=False)
        assert torch.equal(scores, tags.sigmoid())
        assert torch.equal(maps, raw.relu())
        assert torch.equal(votes, logits)
        torch.testing.assert_close(probs, logits.softmax(1))
        _, maps, probs, votes = several_views(net, stack, (0.5, 1.0), flip=True)
        torch.testing.assert_close(maps, multi_scale_cam(net, stack, (0.5, 1.0), flip=True))
        torch.testing.assert_close(probs.sum(1), torch.ones(1, *probs.shape[-2:]))
        assert votes is probs


def test_views_are_the_same_where_mirror_images_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    net, stack = joint_net().eval(), batch().images
    with torch.inference_mode():
        apart = several_views(net, stack, (0.5, 1.0), flip=True)
        monkeypatch.setattr("wsssbench_methods.rrm.step.in_one_pass", lambda *given: True)
        together = several_views(net, stack, (0.5, 1.0), flip=True)
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)


def test_labels_of_tagged_images_come_from_mirrored_views_too(tmp_path: Path) -> None:
    predictor = RrmPredictor(joint_net(), config(test_scales=(1.0,)), context(tmp_path))
    image: Tensor = batch().images[0]
    tags = np.array([[True, False]])
    kinds = frozenset({"probs", "labels"})
    (one,) = predictor([image], tags, [], kinds)
    (mirrored,) = predictor([image.flip(-1)], tags, [], kinds)
    assert one.probs is not None
    assert mirrored.probs is not None
    np.testing.assert_allclose(one.probs, mirrored.probs[..., ::-1], atol=1e-5)
    assert set(np.unique(one.labels)) <= {0, 1}


def test_an_early_stop_lies_within_the_steps_and_keeps_the_schedule() -> None:
    assert build_config("rrm", Rrm, {"steps": 9, "stop_at": 3}).joint_schedule().steps == 9
    assert build_config("rrm", Rrm, {"steps": 9, "stop_at": 3}).joint_schedule().stop_at == 3
    with pytest.raises(WsssError, match="stop_at = 10"):
        build_config("rrm", Rrm, {"steps": 9, "stop_at": 10})


def test_shares_of_a_batch_are_of_labelled_pixels_and_of_cells() -> None:
    labels = torch.tensor([[[0, 0, 0, 3], [3, 255, 255, 255]]], dtype=torch.uint8)
    logits = torch.zeros(1, 4, 1, 2)
    logits[0, 3, 0, 1] = 1  # the left cell is background, the right one class 3
    found = {name: float(value) for name, value in shares(labels, logits).items()}
    assert found == {"mined": 0.625, "mined_objects": 0.25, "objects": 0.5}
    nothing = shares(torch.full_like(labels, 255), logits)
    assert (float(nothing["mined"]), float(nothing["mined_objects"])) == (0, 0)


def test_a_classifier_of_a_coarser_stride_is_the_same_classifier_on_a_finer_grid(tmp_path: Path) -> None:
    options = {"preset": "tiny", "output_stride": 4, "classifier_stride": 8, "classifier_steps": 1}
    step = Rrm(build_config("rrm", Rrm, options))
    view = View(TinyDataset(), "train", ("tags",))
    ctx = context(tmp_path)
    coarse = trained_classifier(step._plan, "", view, ctx).eval()
    fine = step._classifier(view, ctx).eval()
    assert (coarse.backbone.stride, fine.backbone.stride) == (8, 4)
    image = torch.rand(1, 3, 33, 41) * 255
    with torch.inference_mode():
        sparse, dense = coarse.class_maps(image), fine.class_maps(image)
    assert dense.shape[-2:] == (9, 11)
    assert torch.allclose(dense[..., ::2, ::2], sparse, atol=1e-5)
    assert step._empty_classifier(ctx).backbone.stride == 4
    plain = {"preset": "tiny", "output_stride": 8, "classifier_steps": 1}
    assert Rrm(build_config("rrm", Rrm, plain))._plan == step._plan  # trained once for both
    assert "classifier_stride" not in key_options(build_config("rrm", Rrm, plain))


def test_a_stride_of_the_classifier_that_is_not_offered_is_refused() -> None:
    step = Rrm(build_config("rrm", Rrm, {"preset": "tiny", "classifier_stride": 16}))
    with pytest.raises(WsssError, match="output stride 16 is not offered by backbone small") as caught:
        step.ready()
    assert str(caught.value.where) == "rrm.classifier_stride"
