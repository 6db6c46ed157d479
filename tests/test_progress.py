"""What is said without a terminal: plain lines, nothing on stdout; and the clock."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from wsssbench.machine.timing import Cost, PhaseTimer
from wsssbench.running.screen.progress import Progress
from wsssbench.running.screen.tasks import Meter, show_numbers


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("wsssbench.running.screen.tasks.time", clock)
    return clock


def test_without_a_terminal_there_are_plain_lines_now_and_then_and_one_at_the_end(clock: Clock) -> None:
    out = io.StringIO()
    with Progress(out).task("cam: fit") as task:
        for step in range(1, 51):
            clock.now += 1
            task.update(step, 50, 16, {"cls": 0.5})
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("cam: fit: 10/50  16.0 images/s  ETA 0:40  cls 0.5")
    assert lines[-1].startswith("cam: fit: 50/50")
    assert "\r" not in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_short_task_is_one_line_and_an_empty_one_none() -> None:
    out = io.StringIO()
    progress = Progress(out)
    with progress.task("crf: predict") as task:
        task.update(4, 8, 4, {})
        task.update(8, 8, 4, {})
    with progress.task("nothing to do"):
        pass
    (line,) = out.getvalue().splitlines()
    assert line.startswith("crf: predict: 8/8")


def fails(progress: Progress) -> None:
    with progress.task("cam: fit") as task:
        task.update(1, 8, 4, {})
        raise ZeroDivisionError


def test_a_task_that_fails_does_not_say_that_it_got_there() -> None:
    out = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        fails(Progress(out))
    assert out.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_says_nothing(stream: type[io.StringIO]) -> None:
    out = stream()
    progress = Progress(out, quiet=True)
    progress.say("hello")
    with progress.task("cam: fit") as task:
        assert progress.view is None
        task.update(1, 1, 1, {})
    assert out.getvalue() == ""


def test_talk_goes_to_stderr_and_nothing_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.say("waiting for process 7")
    with progress.task("cam: fit") as task:
        task.update(1, 1, 3, {})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "waiting for process 7\ncam: fit: 1/1" in captured.err


def test_the_time_left_follows_from_what_was_done_since_the_first_report(clock: Clock) -> None:
    meter = Meter()
    clock.now += 30  # compiling, loading: not the pace of the rest
    meter.add(16, 64, 16)
    assert "ETA" not in str(meter)
    clock.now += 4
    meter.add(32, 64, 16)
    assert meter.left == pytest.approx(8)
    assert meter.rate == pytest.approx(32 / 34)
    assert str(meter) == "0.9 images/s  ETA 0:08"


def test_a_resumed_task_is_not_credited_with_what_was_done_before(clock: Clock) -> None:
    meter = Meter()
    clock.now += 1
    meter.add(901, 1000, 8)
    clock.now += 1
    meter.add(902, 1000, 8)
    assert meter.left == pytest.approx(98)
    assert meter.rate == pytest.approx(8)


def test_a_part_that_counts_from_the_start_again_is_timed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("wsssbench.running.screen.tasks.time", clock)
    meter = Meter()
    for done in range(1, 331):  # a classifier, 10 s a step
        clock.now += 10
        meter.add(done, 330, 16)
    clock.now += 1
    meter.add(1, 400, 8)
    clock.now += 1
    meter.add(2, 400, 8)
    assert meter.left == pytest.approx(398)


def test_numbers_have_four_digits() -> None:
    assert show_numbers({"loss": 0.41239, "energy": -1.5e-7}) == "loss 0.4124  energy -1.5e-07"
    assert show_numbers({}) == ""


# ------------------------------------------------------------------------------------------------ the clock


def test_phases_add_up_may_nest_and_count_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("wsssbench.machine.timing.time", clock)
    timer = PhaseTimer()

    def work() -> None:
        with timer.phase("outer"):
            clock.now += 1
            with timer.phase("inner"):
                clock.now += 2.004
                raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            work()
    assert timer.rounded() == {"inner": 4.01, "outer": 6.01}


def test_costs_add_up_over_sessions(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    assert Cost.read(path) == Cost()
    (Cost.read(path) + Cost(1.5, 10, {"network": 1.0})).write(path)
    (Cost.read(path) + Cost(0.5, 4, {"network": 0.25, "crf": 0.1})).write(path)
    assert Cost.read(path) == Cost(2.0, 14, {"network": 1.25, "crf": 0.1})
    assert json.loads(path.read_text())["images"] == 14
    path.write_text("[1")
    assert Cost.read(path) == Cost()
