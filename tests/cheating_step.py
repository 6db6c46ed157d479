"""A step that looks for masks by every way it knows, for the tests of `--isolate`: it notes which ones led to
the content of the file `secret`, when it is fitted and when it predicts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wsssbench.types import Outputs, StepCard, option

with contextlib.suppress(OSError):  # whoever imports this where it may write can be seen
    Path(__file__).with_suffix(".imported").write_text("imported")


@dataclass(frozen=True)
class CheatConfig:
    """Options of `cheat`."""

    secret: str = option("", "absolute path of a mask", key=False)
    top: str = option("", "a folder above it", key=False)
    port: int = option(0, "where somebody listens on this machine", key=False)
    leave: str = option("", "a link to leave in the own folder")
    scales: tuple[float, ...] = option((0.5, 1.0), "idle; a type to describe")


class Cheat:
    """Looks for masks, and says background everywhere."""

    Config = CheatConfig
    presets: ClassVar = {}
    card = StepCard("cheat", "1", "control", ("tags",), ("labels",))

    def __init__(self, config: CheatConfig) -> None:
        self.config = config

    def fit(self, train: Any, given: Any, ctx: Any) -> Any:
        print("the cheat is at work")
        self._note(ctx, "fit", train)
        if self.config.leave:
            (ctx.workdir / "ckpt").mkdir()
            (ctx.workdir / "ckpt" / "innocent").symlink_to(self.config.leave)
        return self.restore(ctx)

    def restore(self, ctx: Any) -> Any:
        def predict(images: Any, tags: Any, given: Any, want: Any) -> list[Outputs]:
            self._note(ctx, "predict", None)
            return [Outputs(labels=np.zeros(tuple(image.shape[1:]), np.uint8)) for image in images]

        return predict

    def _note(self, ctx: Any, when: str, view: Any) -> None:
        ways: dict[str, Callable[[], bool]] = {
            "absolute path": lambda: readable(self.config.secret),
            "path relative to the working folder": lambda: readable(os.path.relpath(self.config.secret)),
            "path relative to the step's folder": lambda: readable(self._from(ctx.workdir)),
            "search": self._by_search,
            "link": lambda: self._by_link(ctx.workdir),
            "process": lambda: any(map(readable, self._by_process())),
            "open file": lambda: any(map(readable, self._by_open_file())),
            "view": lambda: view is not None and view._View__dataset.mask(view.ids[0]) is not None,
            "network": self._by_network,
            "socket file": self._by_socket_file,
            "namespaces": lambda: not subprocess.run(["unshare", "-Ur", "true"], stderr=-3).returncode,
        }  # fmt: skip
        found = []
        for name, way in ways.items():
            with contextlib.suppress(Exception):
                found += [name] if way() else []
        (ctx.workdir / f"{when}.json").write_text(json.dumps(found))

    def _from(self, folder: Path) -> str:
        return f"{folder}/{os.path.relpath(self.config.secret, folder.resolve())}"

    def _by_search(self) -> bool:
        name = Path(self.config.secret).name
        return any(name in files for _, _, files in os.walk(self.config.top))

    def _by_link(self, folder: Path) -> bool:
        link = folder / "link"
        link.symlink_to(self.config.secret)
        try:
            return readable(link)
        finally:
            link.unlink()

    def _by_process(self) -> Iterator[str]:
        for process in (*Path("/proc").glob("[0-9]*"), "/proc/self", "/proc/thread-self"):
            yield f"{process}/root{self.config.secret}"
            yield f"{process}/cwd/{os.path.relpath(self.config.secret)}"

    def _by_open_file(self) -> Iterator[str]:
        for opened in Path("/proc/self/fd").iterdir():
            yield f"{opened}/{os.path.relpath(self.config.secret)}"
        yield f"/proc/self/root/{self.config.secret}"

    def _by_network(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.config.port), timeout=2):
            return True

    def _by_socket_file(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{self.config.top}/socket")
            return True


def readable(path: Any) -> bool:
    """Whether the file at `path` can be read."""
    try:
        with Path(path).open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False
