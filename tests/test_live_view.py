"""The live area of a terminal: calm, one of it, gone at the end; and tables that fit the terminal."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from wsssbench.running.screen.live_view import LiveView
from wsssbench.running.screen.progress import Progress
from wsssbench.running.screen.tasks import clock

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
ERASE = "\x1b[2K"
TINY = ["--dataset", "shapes", "-o", "shapes.preset=tiny", "--device", "cpu"]
LONG = "a-method-with-a-long-name seed 12"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "70")


def drawn(view: LiveView, width: int = 80) -> list[str]:
    """The lines of the area at a width."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(view)
    return [line.rstrip() for line in capture.get().split("\n")[:-1]]


def test_the_area_shows_the_cell_its_place_the_task_and_its_numbers() -> None:
    progress = Progress(Terminal())
    with progress.live():
        assert progress.view is not None
        progress.heading("cam seed 0 seg on val", "cell 2 of 6")
        with progress.task("cam seed 0: fit") as task:
            task.update(1, 8, 4, {"cls": 0.25})
            task.update(2, 8, 4, {"cls": 0.125})
            first, second, third = drawn(progress.view)
            assert re.fullmatch(r"cam seed 0 seg on val +cell 2 of 6  0:0\d", first)
            assert re.search(r"^  cam seed 0: fit +[━╸]+ +2/8  [\d.]+ images/s  ETA 0:0\d$", second)
            assert third == "  cls 0.125"
            with progress.task("compiling the filter, about 30 s"):
                assert drawn(progress.view)[1] == "  compiling the filter, about 30 s"
            assert "2/8" in drawn(progress.view)[1]
        _, second, third = drawn(progress.view)
        assert (second, third) == ("", "")  # the same height between two tasks
    assert progress.view is None


@pytest.mark.parametrize("width", [200, 80, 50, 30, 12, 4])
def test_no_line_is_wider_than_the_terminal_and_there_are_always_three(width: int) -> None:
    progress = Progress(Terminal())
    with progress.live():
        assert progress.view is not None
        progress.heading(f"{LONG} seg+ms+crf on val", "cell 12 of 60")
        with progress.task(f"{LONG}: predict val@0.5,1.0+flip") as task:
            assert len(drawn(progress.view, width)) == 3
            task.update(500, 1449, 16, {f"loss{n}": 0.123456 for n in range(9)})
            lines = drawn(progress.view, width)
    assert len(lines) == 3
    assert max(map(len, lines)) <= max(width - 3, 1)  # room for what the terminal echoes
    if width >= 30:
        assert "500/1449" in lines[1]
        assert re.search(r"cell 12 of 60  0:0\d$", lines[0])


def test_what_is_said_stays_above_the_area_which_leaves_nothing_behind() -> None:
    out = Terminal()
    progress = Progress(out)
    with progress.live():
        progress.heading("second")
        progress.say("first [red]done[/red]: mIoU 18.3")
    text = out.getvalue()
    assert "first [red]done[/red]: mIoU 18.3" in CONTROL.sub("", text)  # no markup is read into it
    assert text.endswith(ERASE)
    assert "\x1b[?25l" not in text  # a killed process must not leave a terminal without a cursor


def test_a_task_outside_of_a_run_has_an_area_and_then_a_line() -> None:
    out = Terminal()
    with Progress(out).task("cam: png") as task:
        task.update(8, 8, 8, {})
    assert out.getvalue().rpartition(ERASE)[2].startswith("cam: png: 8/8  ")


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_that_cannot_rewrite_a_line_gets_plain_lines(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", name)
    out = Terminal()
    progress = Progress(out)
    with progress.live(), progress.task("cam: fit") as task:
        task.update(1, 1, 1, {})
        progress.say("done")
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().splitlines()[0] == "done"


def test_a_failure_gives_the_terminal_back() -> None:
    progress = Progress(Terminal())
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), progress.live(), progress.task("cam: fit"):
        raise ZeroDivisionError
    assert progress.view is None
    assert (sys.stdout, sys.stderr) == before


def test_times_and_a_bar_in_a_terminal_without_unicode() -> None:
    assert [clock(s) for s in (0, 59.6, 751, 3723)] == ["0:00", "1:00", "12:31", "1:02:03"]
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(width=100, file=ascii_only, color_system=None)
    progress = Progress(Terminal())
    with progress.live(), progress.task("cam: fit") as task:
        assert progress.view is not None
        task.update(4, 8, 4, {})
        with console.capture() as capture:
            console.print(progress.view)
    bar = re.search(r"-+", capture.get().splitlines()[1])
    assert bar
    assert len(bar[0]) == 15  # half of its greatest width


# --------------------------------------------------------------------------------- the command in a terminal


def in_a_pty(
    arguments: list[str], folder: Path, stop: Callable[[str], bool] = lambda text: False
) -> tuple[str, int]:
    """What the command writes to a pseudo terminal, and its exit code; Ctrl-C once `stop` says so."""
    pty = pytest.importorskip("pty", reason="no pseudo terminals here")
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execve(sys.executable, [sys.executable, "-m", "wsssbench", *arguments], os.environ)
    data, asked, end = b"", False, time.monotonic() + 300
    while True:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                data += os.read(terminal, 65536)
            except OSError:  # as Linux says that the other end is closed
                break
        if not asked and stop(data.decode(errors="replace")):
            os.write(terminal, b"\x03")
            asked = True
    os.close(terminal)
    return data.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_run_in_a_terminal_ends_with_tables_that_fit_it(tmp_path: Path) -> None:
    text, code = in_a_pty(["run", "--method", "constant", *TINY, "--stages", "pseudo,seg"], tmp_path)
    assert code == 0, text
    lines = [line for line in re.split(r"[\r\n]+", CONTROL.sub("", text)) if line.strip()]
    assert lines[0].startswith("planning")
    said = [line for line in lines if line.startswith("constant seed 0 seg on val: mIoU")]
    assert len(said) == 1  # a finished cell is one line
    first, second = lines.index("shapes: pseudo on train"), lines.index("shapes: seg on val")
    assert lines[second + 1].split()[:3] == ["rank", "method", "mIoU"]
    assert lines[second + 2].split()[:2] == ["1", "constant"]
    assert max(map(len, lines[first : second + 4])) <= 70
    assert any(line.startswith("next: wsssbench report runs") for line in lines)


def test_ctrl_c_leaves_a_clean_terminal_and_says_how_to_go_on(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    text = Path(__file__).with_name("bright_step.py").read_text().replace('"bright"', '"slow"')
    slow.write_text(text.replace("gain = 1.0", "__import__('time').sleep(600)\n        gain = 1.0"))
    arguments = ["run", "--plugin", str(slow), "--method", "slow", *TINY, "--stages", "pseudo"]
    text, code = in_a_pty(arguments, tmp_path, lambda text: "slow seed 0: fit" in text)
    assert code == 130, text
    end = text.rpartition(ERASE)[2]
    assert end.strip() == "interrupted; what is done is kept, the same command goes on from there"
    assert "Traceback" not in text
