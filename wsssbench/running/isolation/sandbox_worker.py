"""The process inside a sandbox: it does the one thing that it is asked, and ends.

The request comes on stdin as one line of JSON, the answer and what is reported before it go to what was
stdout; whatever a step prints goes to stderr. The end of stdin acts like Ctrl-C, so that a training leaves a
checkpoint. Nothing here guards anything: the sandbox does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

import msgspec

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import WsssError
from wsssbench.identity import Stage, plain
from wsssbench.machine.interrupts import INTERRUPTED
from wsssbench.running.isolation.boxed import GIVEN, MADE, SHOWN
from wsssbench.running.isolation.strangers import PluginSource, described
from wsssbench.types import DatasetCard

Asked = dict[str, Any]


class Talk:
    """What is said to the process outside; stands for the task of a context, and for its board."""

    def __init__(self, pipe: IO[str]) -> None:
        self.pipe, self.writing = pipe, threading.Lock()

    def send(self, event: str, *said: Any) -> None:
        """Send one event; steps may report from several threads."""
        with self.writing:
            print(json.dumps([event, *plain(said)]), file=self.pipe, flush=True)

    def update(self, *said: Any) -> None:
        """As `Task.update`."""
        self.send("task", *said)

    def progress(self, *said: Any) -> None:
        """As `TrainingBoard.progress`."""
        self.send("board", *said)


def describe(asked: Asked, talk: Talk) -> Any:
    """What a file or an installed plugin defines."""
    return described(PluginSource(**asked["source"]))


def attribute(asked: Asked, talk: Talk) -> Any:
    """An attribute of a step with its options, called where it is a method."""
    value = getattr(_step(asked), asked["name"])
    if not callable(value):
        return plain(value)
    return plain(value(*(_card(given) if isinstance(given, dict) else given for given in asked["given"])))


def fit(asked: Asked, talk: Talk) -> Any:
    """Fit the step on the staged images."""
    from wsssbench.types import View

    ctx, data = _context(asked, talk), _data(asked)
    given = _given(asked) or ArtifactFolder(GIVEN)
    try:
        _step(asked).fit(View(data, data.split, asked["supervision"]), given, ctx)
    finally:
        costs = {str(folder): plain(cost) for folder, cost in ctx.costs.items()}
        talk.send("spent", ctx.images, ctx.away, costs, ctx.timer.seconds, ctx.renewed or ())


def predict(asked: Asked, talk: Talk) -> Any:
    """Ask the fitted step about the staged images; what it says is written where the engine takes it."""
    from wsssbench.plugins.contract import as_predictor
    from wsssbench.running.predicting import predict_missing

    ctx = _context(asked, talk)
    task: Any = talk
    predictor, made = as_predictor(_step(asked).restore(ctx)), ArtifactFolder(MADE, asked["ids"])
    predict_missing(
        predictor, _data(asked), made, _given(asked),
        asked["kinds"], task, device=ctx.device, tags_given=asked["tags_given"],
        stage=msgspec.convert(asked["stage"], Stage | None), todo=asked["todo"],
    )  # fmt: skip


def _given(asked: Asked) -> ArtifactFolder | None:
    """What the step before gave, of the kinds that are shown."""
    return ArtifactFolder(GIVEN, asked["ids"], asked["given"]) if asked["given"] else None


def _step(asked: Asked) -> Any:
    """The step with the options that were sent, all of them: no preset, no default of another version."""
    from wsssbench.plugins.options import NO_PRESET, PRESET, build_config

    source = PluginSource(**asked["source"])
    cls = source.load()
    return cls(build_config(source.name, cls, {PRESET: NO_PRESET, **asked["config"]}))


def _data(asked: Asked) -> Any:
    from wsssbench.running.isolation.staging import StagedData

    return StagedData(SHOWN, _card(asked["context"]["card"]), asked["split"], asked["ids"])


def _card(told: Any) -> DatasetCard:
    return msgspec.convert(told, DatasetCard)


def _context(asked: Asked, talk: Talk) -> Any:
    """The context of the step, with threads, memory and determinism as in the process outside."""
    from wsssbench.machine.hardware import compute_deterministically, compute_full_float32
    from wsssbench.machine.process import use_machine
    from wsssbench.running.context import RunContext

    use_machine(asked["threads"])
    told = asked["context"]
    if told["device"].startswith("cuda"):
        compute_full_float32()
    if asked["deterministic"]:
        compute_deterministically()
    reported: Any = {"task": talk, "board": talk if asked["board"] else None}
    renewed = None if told["renewed"] is None else set(map(Path, told["renewed"]))
    own = {"card": _card(told["card"]), "workdir": Path(told["workdir"]), "renewed": renewed}
    return RunContext(**{**told, **own, **reported}, say=lambda text: print(text, flush=True))


def _told(error: BaseException) -> tuple[str, str, Any, str]:
    """An error as plain words: class, text, what a WsssError says, traceback."""
    known = None
    if isinstance(error, WsssError):
        known = {name: getattr(error, name) for name in ("what", "where", "hint", "code")}
    return type(error).__name__, str(error), known, "".join(traceback.format_exception(error))[-8000:]


def _interrupt_at_end(source: IO[bytes]) -> None:
    source.read()
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Do what is asked; what is printed from now on goes to stderr, and stdin is empty."""
    source, talk = os.fdopen(os.dup(0), "rb"), Talk(os.fdopen(os.dup(1), "w"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    asked = json.loads(source.readline())
    threading.Thread(target=_interrupt_at_end, args=(source,), daemon=True).start()
    works = {work.__name__: work for work in (describe, attribute, fit, predict)}
    try:
        talk.send("done", works[asked["do"]](asked, talk))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (Exception, SystemExit) as error:
        talk.send("error", *_told(error))


if __name__ == "__main__":
    main()
