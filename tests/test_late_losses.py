"""Losses that are read late, as on a GPU: told in order and once, under their own step, the same log, weights
and failures as where they are read at once.

Trainings are on the CPU here, and what a step's losses are stays hidden until somebody waits for them.
"""

from __future__ import annotations

import json
import math
import os
import runpy
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsssbench.distributed.launch import at_work
from wsssbench.errors import TrainingFailed
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.throughput.clock import Clock
from wsssbench.throughput.device import Instruments
from wsssbench.throughput.measuring_context import MeasuringContext
from wsssbench.throughput.record import BenchProtocol
from wsssbench.train import AliveCheck, Losses, train
from wsssbench.training import late_losses
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.training.late_losses import LATE_STEPS, LateLosses, StepReport, sent, steps_late, with_arrived
from wsssbench.training.optimizers import GRADIENT, Schedule, make_optimizer
from wsssbench.types import View
from wsssbench_methods.segment_training import CollapseCheck

Net: Any = runpy.run_path(str(Path(__file__).with_name("toy_net.py")))["Net"]
STEPS = 7
pytestmark = pytest.mark.usefixtures("one_thread")


# ------------------------------------------------------------------------------------------------- telling


def report(step: int) -> StepReport:
    return StepReport(step, {"total": torch.tensor(float(step))}, 2, 0.1)


def told_by(
    late: int, tell: Callable[[StepReport], None] = lambda report: None
) -> tuple[LateLosses, list[int]]:
    steps: list[int] = []

    def told(found: StepReport) -> None:
        assert found.losses["total"] == found.step
        tell(found)
        steps.append(found.step)

    return LateLosses(told, late), steps


@pytest.mark.parametrize("late", [0, 1, 2, 5])
def test_each_step_is_told_once_in_order_so_many_steps_later(late: int) -> None:
    losses, steps = told_by(late)
    with losses:
        for step in range(4):
            losses.note(report(step))
            assert steps == list(range(step + 1 - late))
        losses.settle()
        assert steps == [0, 1, 2, 3]
        losses.note(report(4))
    assert steps == [0, 1, 2, 3, 4]


def take_steps(losses: LateLosses, count: int, error: type[BaseException] | None = None) -> None:
    """Note the steps 0 to `count` - 1, and then end with `error`."""
    with losses:
        for step in range(count):
            losses.note(report(step))
        if error is not None:
            raise error


def test_what_was_taken_before_an_error_is_told() -> None:
    losses, steps = told_by(2)
    with pytest.raises(ZeroDivisionError):
        take_steps(losses, 2, ZeroDivisionError)
    assert steps == [0, 1]


def test_an_interruption_that_acts_at_once_waits_for_nothing() -> None:
    losses, steps = told_by(2)
    with pytest.raises(KeyboardInterrupt):
        take_steps(losses, 1, KeyboardInterrupt)
    assert steps == []


def fail_at(broken: int) -> Callable[[StepReport], None]:
    def tell(found: StepReport) -> None:
        if found.step == broken:
            raise TrainingFailed("broken", where=f"step {broken}")

    return tell


def test_nothing_is_told_after_the_step_that_broke() -> None:
    losses, steps = told_by(2, fail_at(1))
    with pytest.raises(TrainingFailed, match="broken") as caught:
        take_steps(losses, 9)
    assert (caught.value.where, steps) == ("step 1", [0])


def test_a_step_that_broke_comes_before_what_broke_later() -> None:
    losses, _ = told_by(2, fail_at(0))
    with pytest.raises(TrainingFailed) as caught:
        take_steps(losses, 1, ZeroDivisionError)
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_a_device_that_is_lost_does_not_hide_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Losses:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(late_losses, "sent", lambda losses: lost)
    losses, _ = told_by(2)
    with pytest.raises(ZeroDivisionError):
        take_steps(losses, 1, ZeroDivisionError)


def test_losses_on_the_host_are_told_as_they_are() -> None:
    losses = {"total": torch.tensor(1.5), GRADIENT: torch.tensor(3.0)}
    assert sent(losses)() is losses


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_of_a_gpu_arrive_with_those_of_the_host_in_their_order() -> None:
    losses = {
        "a": torch.tensor(1.5, device="cuda"),
        "b": torch.tensor(2.5),
        "c": torch.ones(1, device="cuda"),
    }
    found = sent({**losses, GRADIENT: torch.tensor(9.0, device="cuda")})()
    assert [(name, value.item(), value.device.type) for name, value in found.items()] == [
        ("a", 1.5, "cpu"), ("b", 2.5, "cpu"), ("c", 1.0, "cpu"),
    ]  # fmt: skip


def test_a_norm_that_arrives_is_told_where_it_is_not_finite_alone() -> None:
    losses = {"total": torch.zeros(()), "own": torch.ones(()), GRADIENT: torch.zeros(())}
    found = with_arrived(losses, {"total": torch.tensor(7.0), GRADIENT: torch.tensor(3.0)})
    assert {name: value.item() for name, value in found.items()} == {"total": 7, "own": 1}
    found = with_arrived(losses, {"total": torch.tensor(7.0), GRADIENT: torch.tensor(math.inf)})
    assert [(name, value.item()) for name, value in found.items()] == [
        ("total", 7), ("own", 1), (GRADIENT, math.inf),
    ]  # fmt: skip


def context(folder: Path, device: str = "cpu", **more: Any) -> RunContext:
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext(device, "fp32", "lattice", TinyDataset.card, folder, None, 3, "toy", **more)


def test_losses_are_read_late_on_a_gpu_by_a_process_that_trains_alone_and_is_not_measured(
    tmp_path: Path,
) -> None:
    assert steps_late(context(tmp_path)) == 0
    assert steps_late(context(tmp_path, "cuda:1")) == LATE_STEPS > 0
    for asked, late in ((True, 0), (False, LATE_STEPS)):
        asking = context(tmp_path, "cuda")
        asking.hears_at_once = asked  # type: ignore[attr-defined]
        assert steps_late(asking) == late
    clock = Clock(BenchProtocol(), Instruments())
    measuring = MeasuringContext(
        "cuda", "bf16", "lattice", TinyDataset.card, tmp_path, None, 3, "toy", clock=clock, owner="toy"
    )
    with measuring.shared("classifier", 1) as shared:
        assert [steps_late(ctx) for ctx in (measuring, shared)] == [0, 0]
    with at_work(SimpleNamespace()):
        assert steps_late(context(tmp_path, "cuda")) == 0


# ------------------------------------------------------------------------------------------- whole trainings


class Hidden:
    """Losses under way: `open` counts those that nobody has waited for yet."""

    open = 0

    def __init__(self, losses: Losses) -> None:
        Hidden.open += 1
        self.losses = {name: value.clone() for name, value in losses.items()}

    def __call__(self) -> Losses:
        Hidden.open -= 1
        return self.losses


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on losses are read late, as those of a GPU."""

    def switch() -> None:
        Hidden.open = 0
        monkeypatch.setattr(late_losses, "sent", Hidden)
        monkeypatch.setattr("wsssbench.train.steps_late", lambda ctx: LATE_STEPS)

    return switch


def run(folder: Path, at: Callable[[int], Any] = lambda step: None, check: Any = None) -> Net:
    """Train `Net` for STEPS steps; `at(step)` is called in each, and may return what spoils its loss."""
    net, plan, ctx = Net(), Schedule(STEPS, 0.01), context(folder)
    first = sum(1 for _ in logged(folder))
    steps = iter(range(first, STEPS))

    def losses(batch: Batch) -> Losses:
        loss = F.binary_cross_entropy_with_logits(net(batch.images), batch.tags)
        spoilt = at(next(steps))
        return {"total": loss if spoilt is None else loss * spoilt, "cls": loss}

    batches = CropBatches(View(TinyDataset(), "train", ("tags",)), CropRule(20, (0.7, 1.3)), 2, 11)
    train(ctx, "net", net, make_optimizer(net.body, [net.head], plan), batches, losses, plan, check)
    return net


def logged(folder: Path) -> list[dict[str, Any]]:
    """What the log says of each step, but for the time of day."""
    path = folder / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def alive() -> AliveCheck:
    return AliveCheck(torch.tensor([0.5, 0.5]), patience=100)


def test_a_training_that_reads_late_logs_learns_and_remembers_the_same(tmp_path: Path, late: Any) -> None:
    checks = [alive(), alive()]
    seen: list[int] = []
    at_once = run(tmp_path / "a", check=checks[0])
    late()
    afterwards = run(tmp_path / "b", lambda step: seen.append(Hidden.open), checks[1])
    assert same(at_once, afterwards)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    assert [line["done"] for line in logged(tmp_path / "b")] == list(range(1, STEPS + 1))
    assert checks[0].memory == checks[1].memory
    assert seen == [0, 1, 2, 2, 2, 2, 2]
    assert Hidden.open == 0


@pytest.mark.parametrize("stop", [0, 1, 4, STEPS - 1])
def test_an_interrupted_run_has_told_all_that_it_saved_and_goes_on_with_the_same_log(
    stop: int, tmp_path: Path, late: Any
) -> None:
    whole = run(tmp_path / "whole", check=(undisturbed := alive()))
    late()

    def interrupt(step: int) -> None:
        if step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", interrupt, alive())
    assert len(logged(tmp_path / "parts")) == stop + 1
    state = torch.load(tmp_path / "parts/ckpt/net.pt", weights_only=True)
    assert state["step"] == stop + 1
    assert len(state["check"]) == 1 + (stop + 1)  # a loss of every step
    resumed = alive()
    assert same(whole, run(tmp_path / "parts", check=resumed))
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    assert resumed.memory == undisturbed.memory


@pytest.mark.parametrize("broken", [0, 3, STEPS - 1])
@pytest.mark.parametrize("every_step_saved", [False, True])
def test_a_loss_that_is_no_number_is_named_with_its_step_and_no_later_one_is_saved(
    broken: int, every_step_saved: bool, tmp_path: Path, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if every_step_saved:
        monkeypatch.setattr("wsssbench.train.CHECKPOINT_SECONDS", -1.0)
    late()
    with pytest.raises(TrainingFailed, match="not finite: total") as caught:
        run(tmp_path, lambda step: math.nan if step == broken else None)
    assert caught.value.where == f"net, step {broken}"
    assert [line["done"] for line in logged(tmp_path)] == list(range(1, broken + 1))
    saved = tmp_path / "ckpt/net.pt"
    assert saved.exists() == (every_step_saved and broken > 0)
    if saved.exists():
        assert torch.load(saved, weights_only=True)["step"] == broken


def test_a_check_that_stops_a_late_training_names_the_step_that_it_saw(
    tmp_path: Path, late: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late()
    check = AliveCheck(torch.tensor([1e-9]), patience=5)  # guessing costs nothing
    monkeypatch.setattr("wsssbench.training.checks.CHANCE", 1.0)  # nor is a fall any sign of life
    with pytest.raises(TrainingFailed, match="the classifier died") as caught:
        run(tmp_path, check=check)
    assert caught.value.where == "step 4"


def test_an_error_in_a_step_leaves_the_log_of_all_steps_before_it(tmp_path: Path, late: Any) -> None:
    late()
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, lambda step: 1 // 0 if step == 4 else None)
    assert [line["done"] for line in logged(tmp_path)] == [1, 2, 3, 4]


def test_the_rate_in_the_log_is_that_of_the_step_that_is_told(tmp_path: Path, late: Any) -> None:
    late()
    run(tmp_path)
    rates = [line["rate"] for line in logged(tmp_path)]
    assert rates == pytest.approx([0.01 * (1 - step / STEPS) ** 0.9 for step in range(STEPS)])


def test_a_collapse_is_judged_by_the_batches_of_the_steps_that_are_told() -> None:
    """Batches are noted two steps ahead of what is told, as on a GPU."""
    at_once, behind = CollapseCheck(4), CollapseCheck(4)
    batches = [
        (
            F.one_hot(torch.full((2, 4, 4), step % 3), 3).permute(0, 3, 1, 2),
            torch.full((2, 8, 8), step).byte(),
        )
        for step in range(6)
    ]
    memories = []
    for step, batch in enumerate(batches):
        at_once.note(*batch)
        at_once({}, step)
        memories.append(at_once.memory)
    for step in range(6 + 2):
        if step < 6:
            behind.note(*batches[step])
        if step >= 2:
            behind({}, step - 2)
            assert behind.memory == memories[step - 2]


def test_a_training_says_that_its_sizes_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[str] = []

    @contextmanager
    def noted(device: str) -> Iterator[None]:
        inside.append(device)
        yield
        inside.append("out")

    monkeypatch.setattr("wsssbench.train.sizes_repeat", noted)
    run(tmp_path, lambda step: inside.append(f"step {step}"))
    assert inside == ["cpu", *(f"step {step}" for step in range(STEPS)), "out"]
