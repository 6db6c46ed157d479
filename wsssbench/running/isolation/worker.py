"""The process inside a sandbox: it imports the step, and fits, restores and asks it as it is told.

Messages come on stdin and go to what was stdout; whatever a step prints goes to stderr. It is told the public
card, the ids of the staged images and the step's options. Nothing here guards anything: the sandbox does.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from wsssbench.errors import WsssError
from wsssbench.identity import plain
from wsssbench.running.isolation.frames import packed_outputs, receive, send, unpacked_outputs
from wsssbench.types import DatasetCard


class Worker:
    """Answers one message after the other; keeps the predictor in between."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self.source, self.sink = source, sink
        self.todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.writing = threading.Lock()
        self.predictor: Any = None
        self.device = "cpu"

    def serve(self) -> None:
        """Until the other side closes the pipe."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (message := self.todo.get()) is not None:
            header, arrays = message
            try:
                answer, given = getattr(self, f"do_{header['do']}")(header, arrays)
                self.say({"kind": "done", **answer}, given)
            except KeyboardInterrupt:
                self.say({"kind": "interrupted"})
            except (Exception, SystemExit) as error:
                self.say({"kind": "error", **_told(error)})

    def _listen(self) -> None:
        """Messages as they come; `interrupt` acts like Ctrl-C, so that a training leaves a checkpoint."""
        try:
            while True:
                header, arrays = receive(self.source)
                if header.get("do") == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    self.todo.put((header, arrays))
        except (EOFError, OSError, ValueError):
            self.todo.put(None)

    def say(self, header: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> None:
        """Send one message; steps may report from several threads."""
        with self.writing:
            send(self.sink, header, arrays)

    # --------------------------------------------------------------------------------------------- requests

    def do_describe(self, header: Any, arrays: Any) -> Any:
        """What a file or an installed plugin defines."""
        from wsssbench.running.isolation.descriptions import described

        return {"found": described(header["file"], header["value"])}, None

    def do_instance(self, header: Any, arrays: Any) -> Any:
        """The card that a step has with its options, and why it cannot run."""
        step = _step(header)
        why = _refusal(step.ready) if hasattr(step, "ready") else None
        return {"card": plain(step.card), "not_ready": why}, None

    def do_ready_on(self, header: Any, arrays: Any) -> Any:
        """Why the step cannot run on a data set or with a filter."""
        step, card = _step(header), card_of(header["card"])
        return {"not_ready": _refusal(lambda: step.ready_on(card, header["filter"]))}, None

    def do_skip(self, header: Any, arrays: Any) -> Any:
        """Why the step is silent on these ids."""
        return {"reason": str(_step(header).skip(header["split"], tuple(header["ids"])))}, None

    def do_fit(self, header: Any, arrays: Any) -> Any:
        """Fit the step on the staged images."""
        from wsssbench.artifacts import ArtifactFolder
        from wsssbench.running.isolation.staging import StagedData
        from wsssbench.types import View

        self._prepare(header)
        card, ctx, start = card_of(header["card"]), self._context(header), time.perf_counter()
        staged = StagedData(
            Path(header["staged"]), card, header["split"], tuple(header["ids"]), header["print"]
        )
        view = View(staged, header["split"], header["supervision"])
        given = ArtifactFolder(Path(header["given"]), tuple(header["given_ids"]), header["given_kinds"])
        answer: dict[str, Any] = {}
        try:
            self.predictor = _step(header).fit(view, given, ctx)
            answer = self._told_predictor()
        finally:
            answer |= {"seconds": time.perf_counter() - start, **_spent(ctx)}
            self.say({"kind": "cost", **answer})
        return answer, None

    def do_restore(self, header: Any, arrays: Any) -> Any:
        """Make the predictor of a fitted step."""
        self._prepare(header)
        self.predictor = _step(header).restore(self._context(header))
        return self._told_predictor(), None

    def do_predict(self, header: Any, arrays: Any) -> Any:
        """Ask the predictor about some images."""
        import torch

        from wsssbench.running.predicting import outputs_of

        count, given = header["count"], {}
        for name in list(arrays):
            if name.startswith("given."):
                given[name.removeprefix("given.")] = arrays.pop(name)
        images = [torch.from_numpy(arrays[f"image.{n}"]).to(self.device) for n in range(count)]
        found = outputs_of(
            self.predictor, header["ids"], images, arrays.get("tags"), unpacked_outputs(given, count),
            frozenset(header["want"]),
        )  # fmt: skip
        return {"count": len(found)}, packed_outputs(found)

    # ------------------------------------------------------------------------------------------------ means

    def _prepare(self, header: Any) -> None:
        """Threads, memory and determinism as in the process outside."""
        import torch

        from wsssbench.machine.hardware import compute_deterministically, compute_full_float32
        from wsssbench.machine.process import keep_memory

        self.device = header["context"]["device"]
        torch.set_num_threads(header["threads"])
        if header["keep_memory"]:
            keep_memory()
        if self.device.startswith("cuda"):
            compute_full_float32()
        if header["deterministic"]:
            compute_deterministically()

    def _context(self, header: Any) -> Any:
        from wsssbench.running.context import RunContext

        told = dict(header["context"])
        told["workdir"] = Path(told["workdir"])
        renewed = told.pop("renewed")
        talk: Any = Talk(self)
        return RunContext(
            **told,
            card=card_of(header["card"]),
            say=talk.line,
            task=talk,
            board=talk if header["board"] else None,
            renewed=None if renewed is None else {Path(path) for path in renewed},
        )

    def _told_predictor(self) -> dict[str, Any]:
        from wsssbench.running.predicting import looks_up

        size = getattr(self.predictor, "images_per_call", None)
        return {"images_per_call": size, "looks_up": looks_up(self.predictor)}


class Talk:
    """What a step reports, handed on: as the task of a context and as its board."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def line(self, text: str) -> None:
        """One line of talk."""
        self.worker.say({"kind": "say", "text": text})

    def update(self, done: int, total: int, images: int, numbers: dict[str, float]) -> None:
        """Progress of the task."""
        self.worker.say({"kind": "task", "update": [done, total, images, numbers]})

    def progress(self, work: str, done: int, images: int, losses: Any, rate: float | None) -> None:
        """Progress for the curves."""
        self.worker.say({"kind": "board", "progress": [work, done, images, dict(losses), rate]})


def card_of(told: Mapping[str, Any]) -> DatasetCard:
    """A card that went through JSON."""
    lists = {name: tuple(told[name]) for name in ("class_names", "splits")}
    return DatasetCard(**{**told, **lists})


def _step(header: Mapping[str, Any]) -> Any:
    """The step with the options that it is told, all of them: no preset, no default of another version."""
    from wsssbench.plugins.options import NO_PRESET, PRESET, build_config
    from wsssbench.running.isolation.sources import StepSource

    cls = StepSource(**header["source"]).load()
    return cls(build_config(header["name"], cls, {PRESET: NO_PRESET, **header["config"]}))


def _spent(ctx: Any) -> dict[str, Any]:
    """What the context has counted, for the one outside."""
    costs = {str(folder): plain(cost) for folder, cost in ctx.costs.items()}
    renewed = None if ctx.renewed is None else sorted(map(str, ctx.renewed))
    told = {"images": ctx.images, "away": ctx.away, "costs": costs, "renewed": renewed}
    return {**told, "phases": dict(ctx.timer.seconds)}


def _refusal(ask: Callable[[], object]) -> dict[str, Any] | None:
    """The WsssError that `ask` raises, as plain words; None where it raises none."""
    try:
        ask()
    except WsssError as error:
        return _told(error)
    return None


def _told(error: BaseException) -> dict[str, Any]:
    """An error as plain words."""
    told: dict[str, Any] = {"type": type(error).__name__, "text": str(error), "wsss": None}
    if isinstance(error, WsssError):
        told["wsss"] = {"what": error.what, "where": error.where, "hint": error.hint, "code": error.code}
    return {**told, "trace": "".join(traceback.format_exception(error))[-8000:]}


def main() -> None:
    """Serve; what is printed from now on goes to stderr, and stdin is empty."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    Worker(source, sink).serve()


if __name__ == "__main__":
    main()
