"""Numbers that break: losses, gradients, weights and outputs that are not finite; nothing to learn from."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import BadData, TrainingFailed
from wsssbench.testing.tiny import TinyDataset
from wsssbench.train import NOTHING_MINED, AliveCheck, Schedule, make_optimizer, tag_frequencies, train
from wsssbench.training.crops import Batch, CropRule
from wsssbench.types import Maps, Outputs, View
from wsssbench_methods.classifier import ClassifierPlan, fit_tags, new_classifier
from wsssbench_methods.rrm.losses import balanced_cross_entropy

KNOWN = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("test_train.py"))))


def fit(workdir: Path, loss: Any, steps: int = 3, clip: float = 1.0, lr: float = 0.01) -> nn.Module:
    """A network trained with the loss `loss(net, batch, step)`."""
    net, plan, done = KNOWN.Net(), Schedule(steps, lr, clip=clip, optimizer="sgd", momentum=0), []

    def losses(batch: Batch) -> dict[str, Tensor]:
        done.append(1)
        return {"total": loss(net, batch, len(done))}

    train(KNOWN.context(workdir), "net", net, make_optimizer(net, [], plan), KNOWN.batches(), losses, plan)
    return net


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_fails_the_training_by_name_and_step(tmp_path: Path, number: float) -> None:
    with pytest.raises(TrainingFailed, match="not finite: total") as caught:
        fit(tmp_path, lambda net, batch, step: net(batch.images).sum() * (number if step == 2 else 1.0))
    assert caught.value.where == "net, step 1"


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_fails_the_last_step_too_with_or_without_clipping(
    tmp_path: Path, clip: float
) -> None:
    def loss(net: nn.Module, batch: Batch, step: int) -> Tensor:
        total = net(batch.images).sum()
        return total if step < 3 else torch.sqrt(total * 0)  # 0, with an infinite slope

    with pytest.raises(TrainingFailed, match="not finite: gradient") as caught:
        fit(tmp_path, loss, clip=clip)
    assert caught.value.where == "net, step 2"
    assert not (tmp_path / "ckpt" / "net.pt").exists()


def test_weights_that_an_update_carries_beyond_all_numbers_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"not finite: \d+ tensors of weights"):
        fit(tmp_path, lambda net, batch, step: net(batch.images).sum() * 1e10, steps=1, clip=0, lr=1e30)
    assert not (tmp_path / "ckpt" / "net.pt").exists()


def test_without_clipping_a_finite_gradient_stays_as_it_is(tmp_path: Path) -> None:
    one, two = (fit(tmp_path / name, lambda net, batch, step: net(batch.images).sum(), clip=clip)
                for name, clip in (("a", 0.0), ("b", 1e30)))  # fmt: skip
    assert KNOWN.same(one, two)


# -------------------------------------------------------------------------------- nothing to learn from


def test_a_batch_without_mined_pixels_costs_nothing_and_has_a_gradient_of_zero() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = balanced_cross_entropy(logits, torch.full((2, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def mined(check: AliveCheck, shares: list[float]) -> int | None:
    """The index at which the check stops the training."""
    for step, share in enumerate(shares):
        try:
            check({"cls": torch.tensor(0.1), "mined": torch.tensor(share)}, step)
        except TrainingFailed as error:
            return step if "mining found no reliable pixel" in str(error) else -1
    return None


def test_mining_that_finds_nothing_for_an_epoch_stops_the_training_and_one_pixel_does_not() -> None:
    check = AliveCheck(torch.tensor([0.5]), patience=1000)
    assert mined(check, [0.0] * (NOTHING_MINED - 1) + [1e-6] + [0.0] * (NOTHING_MINED - 1)) is None
    assert mined(check, [0.0]) == 0


def test_a_resumed_training_goes_on_counting_what_mining_has_not_found() -> None:
    first, again = (AliveCheck(torch.tensor([0.5]), patience=1000) for _ in range(2))
    assert mined(first, [0.0] * (NOTHING_MINED - 1)) is None
    again.memory = first.memory
    assert mined(again, [0.0]) == 0


def test_a_class_without_any_image_counts_as_rare_and_not_as_broken() -> None:
    frequencies = tag_frequencies([np.array([1, 0, 0]), np.array([1, 1, 0])])
    assert frequencies.tolist() == [1.0, 0.5, 0.0]
    assert np.isfinite(AliveCheck(frequencies, patience=2).guess)


def tags_learned(workdir: Path, *, blind: bool) -> nn.Module:
    """A classifier trained on the tags of the made-up images; a `blind` one sees none of their pixels."""
    ctx = KNOWN.context(workdir)
    rule, schedule = CropRule(24, (1.0, 1.0)), Schedule(250, 3e-3, head_factor=3.0)
    plan = ClassifierPlan("compact", 8, "", 0.0, rule, 6, schedule)
    net = new_classifier(plan, "", ctx)
    if blind:
        net.backbone.forward = lambda pixels: torch.ones(len(pixels), net.backbone.channels, 3, 3)
    fit_tags(net, View(TinyDataset(), "train", ("tags",)), plan, ctx)
    return net


@pytest.mark.usefixtures("one_thread")
def test_a_classifier_that_sees_nothing_is_found_in_a_real_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        TrainingFailed, match="the classifier died: its loss over the last 240 steps"
    ) as caught:
        tags_learned(tmp_path, blind=True)
    assert int(caught.value.where.removeprefix("step ")) in range(239, 250)
    assert "warning: the classifier is no better than guessing yet" in capsys.readouterr().err


@pytest.mark.usefixtures("one_thread")
def test_a_classifier_that_sees_the_same_images_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tags_learned(tmp_path, blind=False)
    assert capsys.readouterr().err == ""


# --------------------------------------------------------------------------------- what a step hands out


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e30])  # the last in float16
@pytest.mark.parametrize("kind", ["maps", "probs", "tag_scores"])
def test_an_output_that_is_not_finite_is_refused_by_its_image(
    tmp_path: Path, kind: Any, number: float
) -> None:
    values = np.full((1, 2, 2), number * 1e20 if kind == "tag_scores" else number, np.float64)
    outputs = {"maps": Maps(np.array([0]), values), "probs": values, "tag_scores": values.ravel()}
    folder = ArtifactFolder(tmp_path, ["2007_000032"])
    with pytest.raises(BadData, match="not finite") as caught:
        folder.write("2007_000032", Outputs(**{kind: outputs[kind]}), [kind])
    assert caught.value.where == "2007_000032"
    assert folder.missing([kind]) == ["2007_000032"]
