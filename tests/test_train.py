"""The training loop: resuming to the bit, interruptions, checks of the losses, checkpoints; and its crops."""

from __future__ import annotations

import math
import os
import random
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from wsssbench.errors import BadData, TrainingFailed, WsssError
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.train import (
    AliveCheck,
    HeldInterrupts,
    Schedule,
    autocast,
    clipped,
    load_checkpoint,
    make_optimizer,
    one_step,
    patience_of,
    poly,
    save_checkpoint,
    tag_frequencies,
    train,
)
from wsssbench.training.checks import LEAST_PATIENCE, MOST_PATIENCE, WARNED
from wsssbench.training.crops import MEAN_COLOUR, Batch, CropBatches, CropRule, random_crop
from wsssbench.types import Sample, View

Net: Any = runpy.run_path(str(Path(__file__).with_name("toy_net.py")))["Net"]
STEPS = 6
pytestmark = pytest.mark.usefixtures("one_thread")


def context(workdir: Path, **changes: Any) -> RunContext:
    workdir.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "device": "cpu", "precision": "fp32", "filter_backend": "lattice", "card": TinyDataset.card,
        "workdir": workdir, "limit": None, "run_seed": 3, "step": "toy", **changes,
    }  # fmt: skip
    return RunContext(**fields)


def batches(seed: int = 11, px: int = 20) -> CropBatches:
    return CropBatches(View(TinyDataset(), "train", ("tags", "masks")), CropRule(px, (0.7, 1.3)), 2, seed)


def run(
    workdir: Path, optimizer: str = "adamw", at: Callable[[int], None] = lambda step: None, stop_at: int = 0
) -> Net:
    """Train `Net` for STEPS steps; `at(step)` is called in the middle of each."""
    net, plan, steps = Net(), Schedule(STEPS, 0.01, optimizer=optimizer, stop_at=stop_at), []

    def losses(batch: Batch) -> dict[str, Tensor]:
        loss = nn.functional.binary_cross_entropy_with_logits(net(batch.images), batch.tags)
        steps.append(1)
        at(len(steps) - 1)
        return {"total": loss, "cls": loss}

    train(context(workdir), "net", net, make_optimizer(net.body, [net.head], plan), batches(), losses, plan)
    return net


def same(one: nn.Module, two: nn.Module) -> bool:
    """Whether all weights and statistics are the same bits."""
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ----------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [0, 3])
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(
    stop: int, optimizer: str, tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", optimizer)

    def interrupt(step: int) -> None:
        if step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", optimizer, interrupt)
    state = torch.load(tmp_path / "parts/ckpt/net.pt", weights_only=True)
    assert state["step"] == stop + 1  # the step that was half done has been finished and saved
    resumed: list[int] = []
    parts = run(tmp_path / "parts", optimizer, resumed.append)
    assert len(resumed) == STEPS - stop - 1
    assert same(whole, parts)


def test_a_run_whose_checkpoint_is_damaged_goes_on_from_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(tmp_path / "whole")
    monkeypatch.setattr("wsssbench.train.CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", at=lambda step: step == 4 and 1 // 0)
    saved = tmp_path / "parts/ckpt/net.pt"
    saved.write_bytes(saved.read_bytes()[:-40])
    resumed: list[int] = []
    parts = run(tmp_path / "parts", at=resumed.append)
    assert "of step 3" in capsys.readouterr().err
    assert len(resumed) == STEPS - 3
    assert same(whole, parts)
    assert sorted(path.name for path in saved.parent.iterdir()) == ["net.pt", "net.pt.damaged"]


def test_an_early_stop_is_a_point_on_the_way_of_the_whole_run(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    early = run(tmp_path / "early", stop_at=2)
    assert torch.load(tmp_path / "early/ckpt/net.pt", weights_only=True)["step"] == 2
    assert not same(whole, early)
    assert same(whole, run(tmp_path / "early"))  # the rates were those of the whole schedule


def test_sigterm_is_held_back_like_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at=lambda step: os.kill(os.getpid(), signal.SIGTERM))
    assert torch.load(tmp_path / "ckpt/net.pt", weights_only=True)["step"] == 1


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    again: list[int] = []
    assert same(first, run(tmp_path, at=again.append))
    assert again == []


def test_another_seed_of_the_steps_gives_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path / "a")
    monkeypatch.setattr(RunContext, "seed", lambda self, purpose: 99)
    assert not same(first, run(tmp_path / "b"))


def test_checkpoints_are_written_while_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsssbench.train.CHECKPOINT_SECONDS", -1.0)
    seen: list[int] = []

    def look(step: int) -> None:
        path = tmp_path / "ckpt/net.pt"
        seen.append(torch.load(path, weights_only=True)["step"] if path.exists() else 0)

    run(tmp_path, at=look)
    assert seen == list(range(STEPS))


def test_progress_says_steps_losses_and_images(tmp_path: Path) -> None:
    import json

    run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["done"] for line in lines] == list(range(1, STEPS + 1))
    assert all(math.isfinite(line["losses"]["cls"]) for line in lines)


# -------------------------------------------------------------------------------------------- interruptions


def test_the_second_interruption_acts_at_once() -> None:
    with HeldInterrupts() as held:
        os.kill(os.getpid(), signal.SIGINT)
        assert held.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_also_after_an_error() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def fail() -> None:
        with HeldInterrupts():
            assert signal.getsignal(signal.SIGINT) != before[0]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_of_the_main_thread_signals_are_left_alone() -> None:
    def work() -> Any:
        with HeldInterrupts():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == signal.getsignal(signal.SIGINT)


# --------------------------------------------------------------------------------------------------- losses


def step_with(
    tmp_path: Path, net: nn.Module, loss: Callable[[], Tensor], clip: float = 1.0
) -> dict[str, Tensor]:
    optimizer = make_optimizer(net, [], Schedule(1, 0.1, optimizer="sgd", weight_decay=0, momentum=0))
    batch = Batch(torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4).bool(), torch.ones(1, 2), None, ("a",))
    return one_step(context(tmp_path), net, optimizer, lambda _: {"total": loss()}, batch, 0.5, clip)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    net = Net()
    plan = Schedule(STEPS, 0.01)
    save_checkpoint(tmp_path / "ckpt/net.pt", net, None, 0)
    good = (tmp_path / "ckpt/net.pt").read_bytes()

    def losses(batch: Batch) -> dict[str, Tensor]:
        return {"total": net(batch.images).sum() / 0, "cls": torch.zeros(())}

    with pytest.raises(TrainingFailed, match=r"not finite: total") as caught:
        train(context(tmp_path), "net", net, make_optimizer(net, [], plan), batches(), losses, plan)
    assert caught.value.where == "net, step 0"
    assert "learning rate" in caught.value.hint
    assert caught.value.code == 1
    assert (tmp_path / "ckpt/net.pt").read_bytes() == good


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    before = net.weight.detach().clone()
    values = step_with(tmp_path, net, lambda: torch.sqrt(net.weight.sum() * 0))  # 0, with an infinite slope
    assert values["total"] == 0
    assert not torch.isfinite(values["gradient"])
    assert torch.equal(net.weight, before)


@pytest.mark.parametrize(("clip", "length"), [(1.0, 1.0), (0.0, 20.0)])
def test_a_step_goes_down_the_clipped_gradient_at_the_scheduled_rate(
    clip: float, length: float, tmp_path: Path
) -> None:
    net = nn.Linear(1, 1, bias=False)
    before = net.weight.item()
    step_with(tmp_path, net, lambda: 20 * net.weight.sum(), clip)
    assert net.weight.item() == pytest.approx(before - 0.1 * 0.5 * length, rel=1e-4)


def test_heads_learn_faster_and_frozen_parameters_not_at_all() -> None:
    body, head = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Linear(2, 1)
    body[1].requires_grad_(False)
    slow, fast = make_optimizer(body, [head], Schedule(10, 0.02, head_factor=5)).param_groups
    assert (slow["lr"], fast["lr"]) == (0.02, pytest.approx(0.1))
    assert (len(slow["params"]), len(fast["params"])) == (2, 2)
    sgd = make_optimizer(body, [head], Schedule(10, 0.02, optimizer="sgd", momentum=0.3))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.3


def test_the_poly_schedule_falls_from_one_to_nothing() -> None:
    assert poly(0, 100) == 1.0
    assert poly(50, 100) == pytest.approx(0.5**0.9)
    rates = [poly(step, 100) for step in range(100)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_network_runs_in_the_precision_asked_for(
    precision: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    with autocast(context(tmp_path, precision=precision)):
        assert nn.Conv2d(3, 2, 1)(torch.zeros(1, 3, 4, 4)).dtype == dtype


def follow(check: AliveCheck, losses: Iterable[float]) -> int | None:
    """The step at which the check stops a run with these losses, if it does."""
    for step, loss in enumerate(losses):
        try:
            check({"cls": torch.tensor(loss)}, step)
        except TrainingFailed:
            return step
    return None


HALF = torch.tensor([0.5])  # one tag on every other image: guessing it costs ln 2
RARE = torch.full((58,), 0.0575)  # 58 rare tags: guessing them costs 0.220


def slow_start(plateau: int, rng: np.random.Generator) -> list[float]:
    """The losses of a sound classifier of rare tags: down from ln 2 in 60 steps, so many at the cost of
    guessing, then down to 0.17; each with the noise of its batch."""
    cost = AliveCheck(RARE, patience=2).guess
    level = [cost + (math.log(2) - cost) * 0.9**step for step in range(60)] + [cost * 1.04] * plateau
    level += [cost * 1.04 - (cost * 1.04 - 0.17) * min(1, step / 300) for step in range(600)]
    return [value * factor for value, factor in zip(level, rng.normal(1, 0.1, len(level)), strict=True)]


def test_the_cost_of_guessing_is_the_entropy_of_the_tags() -> None:
    guess = (math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)) / 2
    assert AliveCheck(torch.tensor([0.5, 0.25]), patience=2).guess == pytest.approx(guess)


@pytest.mark.parametrize("excess", [0.0, 0.01, 0.3])
def test_a_classifier_that_stays_at_the_cost_of_guessing_or_above_is_stopped_after_patience(
    excess: float,
) -> None:
    check = AliveCheck(RARE, patience=60)
    assert follow(check, [check.guess + excess] * 100) == 59
    late = AliveCheck(RARE, patience=60)
    stopped = follow(late, [check.guess / 2] * 70 + [check.guess + excess] * 100)
    assert stopped in range(70 + 30, 70 + 60)  # the sooner, the more it costs


def test_a_classifier_that_beats_guessing_or_falls_is_left_alone() -> None:
    guess = AliveCheck(RARE, patience=60).guess
    assert follow(AliveCheck(RARE, patience=60), [guess * 0.97] * 500) is None
    assert follow(AliveCheck(RARE, patience=60), [guess * 3 * 0.999**step for step in range(1000)]) is None


def test_a_classifier_dead_with_the_noise_of_its_batches_is_found_within_two_patiences() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        check = AliveCheck(RARE, patience=240)
        stopped = follow(check, (check.guess * rng.normal(1.01, 0.1, 2000)).tolist())
        assert stopped is not None, seed
        assert stopped < 480, seed


def test_a_slow_start_of_rare_tags_is_no_death() -> None:
    """704 images of 58 rare tags: one was seen to learn after a hundred steps at the cost of guessing."""
    patience = patience_of(704, 16, 3300)
    for seed in range(20):
        losses = slow_start(100 + 5 * seed, np.random.default_rng(seed))
        assert follow(AliveCheck(RARE, patience=patience), losses) is None, seed
        assert follow(AliveCheck(RARE, patience=patience_of(704, 16, 40)), losses[:40]) is None, seed


def test_tags_that_all_images_share_leave_nothing_to_judge() -> None:
    same = torch.tensor([1.0, 0.0])
    assert follow(AliveCheck(same, patience=60), [0.01] * 200) is None


@pytest.mark.parametrize(
    ("images", "batch", "steps", "patience"),
    [
        (704, 16, 3300, 440),  # ten epochs
        (200, 16, 3300, LEAST_PATIENCE),
        (10582, 16, 3300, 1650),  # half of the training
        (10582, 10, 20000, MOST_PATIENCE),
        (40, 16, 40, LEAST_PATIENCE),  # longer than the run: no verdict
    ],
)
def test_patience_is_ten_epochs_or_half_of_the_training_and_neither_short_nor_long(
    images: int, batch: int, steps: int, patience: int
) -> None:
    assert patience_of(images, batch, steps) == patience


def test_a_check_goes_on_from_what_the_checkpoint_remembers(tmp_path: Path) -> None:
    net, path = Net(), tmp_path / "ckpt/net.pt"
    first, again = (AliveCheck(HALF, patience=10) for _ in range(2))
    assert follow(first, [0.9] * 9) is None
    save_checkpoint(path, net, None, 9, first)
    assert load_checkpoint(path, net, None, again) == 9
    assert follow(again, [0.9]) == 0  # the tenth in all
    assert load_checkpoint(path, net, None) == 9  # nobody has to want it


def test_a_checkpoint_of_before_with_the_losses_of_forty_steps_is_gone_on_from() -> None:
    check = AliveCheck(HALF, patience=100)
    check.memory = [7.0, *[0.9] * 40]
    assert (check.empty, follow(check, [0.9] * 100)) == (7, 59)
    short = AliveCheck(HALF, patience=10)
    short.memory = [0.0, *[0.9] * 40]
    assert len(short.memory) == 1 + 10


def test_the_message_of_a_dead_classifier_tells_what_was_seen_and_the_way_out() -> None:
    check = AliveCheck(HALF, patience=4)
    assert follow(check, [0.91, 0.89, 0.94]) is None
    with pytest.raises(TrainingFailed, match="the classifier died") as caught:
        check({"cls": torch.tensor(0.96)}, 3)
    for part in ("over the last 4 steps", "0.900 in the first half", "0.950 in the second", "costs 0.693"):
        assert part in caught.value.what
    assert (caught.value.where, "lr" in caught.value.hint) == ("step 3", True)


def test_there_is_one_warning_before_a_classifier_counts_as_dead(capsys: pytest.CaptureFixture[str]) -> None:
    check = AliveCheck(HALF, patience=1000)
    assert follow(check, [0.9] * (WARNED - 1)) is None
    assert capsys.readouterr().err == ""
    assert follow(check, [0.9] * 300) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the classifier is no better than guessing yet: its loss over the last")
    assert line.endswith("the training stops where 1000 steps go by like that")


def test_tag_frequencies_are_shares_of_images() -> None:
    tags = [np.array([True, False]), np.array([True, True])]
    assert tag_frequencies(tags).tolist() == [1.0, 0.5]


# ---------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_gives_back_weights_optimizer_and_step(tmp_path: Path) -> None:
    net, other, path = Net(), Net(), tmp_path / "a" / "net.pt"
    nn.init.ones_(net.head.weight)
    optimizer = make_optimizer(net.body, [net.head], Schedule(1, 0.1))
    save_checkpoint(path, net, optimizer, 17)
    assert load_checkpoint(path, other, make_optimizer(other.body, [other.head], Schedule(1, 0.1))) == 17
    assert load_checkpoint(path, other, None) == 17
    assert same(net, other)
    assert [p.name for p in path.parent.iterdir()] == ["net.pt"]


def test_a_run_begins_at_step_0_without_a_checkpoint_and_a_fitted_step_misses_it(tmp_path: Path) -> None:
    net = Net()
    assert load_checkpoint(tmp_path / "no.pt", net, make_optimizer(net, [], Schedule(1, 0.1))) == 0
    with pytest.raises(BadData, match="gone") as caught:
        load_checkpoint(tmp_path / "no.pt", net, None)
    assert caught.value.where == str(tmp_path / "no.pt")


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_part_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, net = tmp_path / "net.pt", Net()
    save_checkpoint(path, net, None, 1)
    before = path.read_bytes()

    def full(state: Any, target: Path) -> None:
        target.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WsssError, match="No space left") as caught:
        save_checkpoint(path, net, None, 2)
    assert caught.value.where == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_off_is_named_with_the_way_out(share: float, tmp_path: Path) -> None:
    path, net = tmp_path / "net.pt", Net()
    save_checkpoint(path, net, None, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadData, match="cannot read this checkpoint") as caught:
        load_checkpoint(path, net, None)
    assert caught.value.where == str(path)
    assert "remove" in caught.value.hint


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net.pt", nn.Linear(2, 2), None, 1)
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("net.pt", "list.pt"):
        with pytest.raises(BadData) as caught:
            load_checkpoint(tmp_path / name, Net(), None)
        assert name in caught.value.where


# ---------------------------------------------------------------------------------------------------- crops


def equal(one: Batch, two: Batch) -> bool:
    assert one.labels is not None
    assert two.labels is not None
    pairs = [(one.images, two.images), (one.valid, two.valid), (one.tags, two.tags), (one.labels, two.labels)]
    return one.ids == two.ids and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Schedule(steps=-3, lr=0.1),
        lambda: Schedule(steps=3, lr=0.1, stop_at=-1),
        lambda: CropRule(0),
        lambda: CropRule(8, (1.3, 0.7)),
        lambda: CropRule(8, (0.0, 1.0)),
        lambda: CropBatches(View(TinyDataset(), "train", ("tags",)), CropRule(8), 0, 1),
    ],
    ids=["steps", "stop_at", "px", "descending", "scale 0", "batch"],
)
def test_a_training_without_steps_pixels_or_images_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(WsssError) as caught:
        make()
    assert caught.value.hint


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    source, again = batches(), batches()
    order = list(range(20))
    random.Random(7).shuffle(order)
    mixed = {step: again(step) for step in order}
    assert all(equal(source(step), mixed[step]) for step in range(20))
    for ahead in (0, 1, 4, 20):
        ran = list(batches().run(3, 9, ahead))
        assert len(ran) == 6
        assert all(equal(batch, mixed[3 + n]) for n, batch in enumerate(ran))
    assert list(batches().run(3, 3, 2)) == []
    assert not equal(batches(seed=12)(0), mixed[0])


def test_batches_asked_for_by_many_threads_are_the_same() -> None:
    source, expected = batches(), [batches()(step).ids for step in range(60)]
    with ThreadPoolExecutor(4) as pool:
        assert [batch.ids for batch in pool.map(source, range(60))] == expected


def test_every_epoch_shows_every_image_once_in_another_order() -> None:
    source = batches()
    epochs = [[id for step in range(6 * n, 6 * n + 6) for id in source(step).ids] for n in range(3)]
    assert all(sorted(epoch) == sorted(source.view.ids) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_error_while_reading_ahead_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: TinyDataset, id: str) -> Any:
        raise BadData("image cut off", where=id)

    source = batches()
    monkeypatch.setattr(TinyDataset, "image", broken)
    for ahead in (0, 1, 4):
        with pytest.raises(BadData, match="image cut off"):
            list(source.run(0, 2, ahead))


def test_reading_ahead_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    source = batches().run(0, 5)
    next(source)
    source.close()
    assert threading.active_count() == before


def test_an_empty_split_is_named() -> None:
    view = View(TinyDataset(), "train", ("tags",), limit=0)
    with pytest.raises(BadData, match="no images to train on") as caught:
        CropBatches(view, CropRule(8), 2, 0)
    assert "tiny train" in caught.value.where


def crop(sample: Sample, rule: CropRule, seed: int) -> Batch:
    id, image, valid, tags, labels = random_crop(sample, sample.mask, rule, np.random.default_rng(seed))
    return Batch(image[None], valid[None], tags[None], None if labels is None else labels[None], (id,))


@pytest.mark.parametrize("size", [(10, 12), (10, 40), (40, 10), (24, 24), (50, 60)])
def test_padding_shows_the_mean_colour_is_not_valid_and_has_no_label(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 7, np.uint8)
    sample = Sample("a", image, np.array([True]), mask=np.ones(size, np.uint8))
    for seed in range(5):
        batch = crop(sample, CropRule(24), seed)
        assert batch.images.shape == (1, 3, 24, 24)
        assert batch.images.dtype == torch.uint8
        assert int(batch.valid.sum()) == min(size[0], 24) * min(size[1], 24)
        inside, labels = batch.valid[0], batch.labels
        assert labels is not None
        assert (batch.images[0][:, inside] == 7).all()
        assert (batch.images[0][:, ~inside] == torch.tensor(MEAN_COLOUR)[:, None]).all()
        assert (labels[0][inside] == 1).all()
        assert (labels[0][~inside] == 255).all()


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.7, 1.3), (2.0, 2.0)])
def test_the_mask_follows_the_image_through_scale_flip_and_crop(scale: tuple[float, float]) -> None:
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5).repeat(12, 0).repeat(12, 1)
    image = np.stack([labels * 12] * 3, -1)  # the colour says the label
    sample = Sample("a", image, np.array([True]), mask=labels)
    flipped = set()
    for seed in range(20):
        batch = crop(sample, CropRule(40, scale), seed)
        assert batch.labels is not None
        colour, valid = batch.images[0, 0], batch.valid[0]
        pure = valid & (colour % 12 == 0) & (batch.labels[0] != 255)
        wrong = pure & (batch.labels[0] * 12 != colour)
        # a blend of two labels may look like a third: only along borders, where they are few
        assert pure.sum() > 0.6 * valid.sum(), f"seed {seed}"
        assert wrong.sum() <= 0.06 * pure.sum(), f"seed {seed}: {int(wrong.sum())} of {int(pure.sum())}"
        row = batch.labels[0][valid].view(-1)[:12].int()
        flipped.add(bool((row[1:] - row[:-1]).sum() < 0))
    assert flipped == {False, True}


def test_a_rule_without_chance_gives_the_image_itself() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    batch = crop(Sample("a", image), CropRule(16, flip=0.0), 0)
    assert (batch.images[0].permute(1, 2, 0).numpy() == image).all()
    assert batch.labels is None
    assert batch.tags.numel() == 0


def test_a_mask_of_another_size_is_named() -> None:
    sample = Sample("a", np.zeros((8, 8, 3), np.uint8), np.array([True]), mask=np.zeros((8, 9), np.uint8))
    with pytest.raises(BadData, match=r"mask is \(8, 9\)") as caught:
        crop(sample, CropRule(8), 0)
    assert caught.value.where == "a"


@pytest.mark.parametrize("side", [1, 7, 96, 333])
@pytest.mark.parametrize("factor", [0.5, 0.81, 1.0, 1.37])
def test_crops_are_scaled_as_torchvision_scales_images(side: int, factor: float) -> None:
    """Byte for byte; the crops call torch itself, because importing torchvision takes seconds."""
    draw = np.random.default_rng(side)
    image = draw.integers(0, 256, (side, side + 5, 3), np.uint8)
    mask = draw.integers(0, 9, (side, side + 5), np.uint8)
    size = [max(1, round(n * factor)) for n in mask.shape]
    px = max(size)
    rule = CropRule(px, scale=(0.5, 2.0), flip=0.0)
    _, crop, valid, _, labels = random_crop(Sample("a", image), mask, rule, draw, factor)
    planes = torch.from_numpy(image.transpose(2, 0, 1).copy())
    expected = functional.resize(planes, size, antialias=True)
    assert labels is not None
    assert torch.equal(crop[:, valid].view(3, *size), expected)
    nearest = functional.InterpolationMode.NEAREST_EXACT
    expected = functional.resize(torch.from_numpy(mask)[None], size, interpolation=nearest)
    assert torch.equal(labels[valid].view(1, *size), expected)


def test_a_step_is_imported_without_torchvision() -> None:
    code = "import sys, wsssbench_methods.rrm.step; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_gradient_of_an_earlier_training_does_not_count_in_what_was_frozen_since() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    model[0].requires_grad_(False)
    expected = torch.linalg.vector_norm(torch.cat([p.grad.ravel() for p in model[1].parameters()]))
    assert clipped(model, math.inf) == pytest.approx(expected.item())
