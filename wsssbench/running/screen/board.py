"""What `wsssbench run --tensorboard` writes: the numbers of trainings, and a few masks of judged cells.

Event files below runs/tensorboard/<data set>/<method>/seed<N>, one folder a training and one a cell, called
as theirs are. Nothing is read back, nothing of it enters a record or a key, and where it cannot be written
the run goes on without it. Needs the package `tensorboard`, which is imported where one is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import WsssError
from wsssbench.files.atomic import safe_name
from wsssbench.masks import overlay, read_labels

if TYPE_CHECKING:
    from wsssbench.planning.cells import Cell, Trial
    from wsssbench.types import Image

FOLDER = "tensorboard"  # in the folder of runs
PICTURES = 4  # of each cell: its first images
PACE_SECONDS = 1.0  # over which images/s are counted at least
FLUSH_SECONDS = 10
GAP_PX = 4  # between image, truth and prediction


def open_board(runs: Path, say: Callable[[str], None]) -> Board:
    """The board of a folder of runs; WsssError where TensorBoard cannot be used."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        hint = "pip install 'wsssbench[tensorboard]', or run without --tensorboard"
        raise WsssError(f"TensorBoard is not there ({error})", where="--tensorboard", hint=hint) from error
    return Board(runs / FOLDER, SummaryWriter, say)


class Board:
    """Writers by folder; `with` it they are closed at the end, also after an interruption."""

    def __init__(self, root: Path, writer: Callable[..., Any], say: Callable[[str], None]) -> None:
        self.root, self.say, self._make = root, say, writer
        self._writers: dict[str, Any] = {}
        self.broken = False  # it could not be written to: nothing more is tried

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        self._guarded(lambda: [writer.close() for writer in self._writers.values()])

    def ending(self) -> str:
        """What to type to look at it, or why there is nothing to look at."""
        if not self._writers:
            return "TensorBoard: nothing had to be run, so nothing is written (--rerun all runs it again)"
        return f"TensorBoard: tensorboard --logdir {self.root}"

    def training(self, trial: Trial) -> TrainingBoard:
        """What the trainings of one trial write to."""
        return TrainingBoard(self, place_of(trial))

    def cell(self, cell: Cell, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """The numbers of a judged cell, and image, truth and labels of its first images side by side."""

        def write() -> None:
            writer = self.writer(f"{place_of(cell.trial)}/{cell.folder.name}", 0)
            for name, value in scores["iou"].items():
                if isinstance(value, float):
                    writer.add_scalar(f"iou/{name}", value, 0)
            for id in cell.ids[:PICTURES]:
                writer.add_image(f"masks/{id}", strip(cell, id), 0, dataformats="HWC")
            writer.flush()

        self._guarded(write)

    def numbers(self, place: str, step: int, numbers: Mapping[str, float], first: int) -> None:
        """Scalars at `step`; what an earlier session wrote from the step `first` on is void."""

        def write() -> None:
            writer = self.writer(place, first)
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        self._guarded(write)

    def writer(self, place: str, first: int) -> Any:
        """The writer of a folder, made at its first use."""
        if place not in self._writers:
            folder = self.root / place
            self._writers[place] = self._make(str(folder), purge_step=first, flush_secs=FLUSH_SECONDS)
        return self._writers[place]

    def _guarded(self, write: Callable[[], object]) -> None:
        if self.broken:
            return
        try:
            write()
        except OSError as error:
            self.broken = True
            self.say(f"TensorBoard: cannot write to {self.root} ({error}); the run goes on without it")


class TrainingBoard:
    """The numbers of one trial's trainings, each distinguished by its folder of work."""

    def __init__(self, board: Board, place: str) -> None:
        self.board, self.place = board, place
        self._parts: dict[str, list[TrainingProgress]] = {}

    def progress(
        self, work: str, done: int, images: int, losses: Mapping[str, float], rate: float | None
    ) -> None:
        """`done` units are done, `images` seen since the last call; `rate` is the learning rate."""
        parts = self._parts.setdefault(work, [])
        if not parts or done < parts[-1].last:  # a training that counts from the start again is another part
            parts.append(TrainingProgress(done, done, time.perf_counter()))
        part = parts[-1]
        numbers = {f"loss/{name}": value for name, value in losses.items()}
        if rate is not None:
            numbers["learning_rate"] = rate
        part.last, part.images = done, part.images + images
        passed = time.perf_counter() - part.since
        if passed >= PACE_SECONDS and part.images:
            numbers["images_per_s"] = part.images / passed
            part.since, part.images = time.perf_counter(), 0
        name = f"{self.place}/{work}" + (f"-part{len(parts)}" if len(parts) > 1 else "")
        self.board.numbers(name, done, numbers, part.first)


@dataclass
class TrainingProgress:
    """Where one training stands in this session: units done, and images since the pace was last counted."""

    first: int
    last: int
    since: float
    images: int = 0


def place_of(trial: Trial) -> str:
    """`shapes/cam/seed0`."""
    return f"{safe_name(trial.dataset.card.name)}/{safe_name(trial.method)}/seed{trial.seed}"


def strip(cell: Cell, id: str) -> Image:
    """(H, 3 W + gaps, 3) uint8: image, truth and predicted labels, these laid over the image."""
    data = cell.trial.dataset
    image = data.image(id)
    labels = read_labels(cell.folder / "masks" / f"{id}.png")
    gap = np.full((image.shape[0], GAP_PX, 3), 255, np.uint8)
    parts = [image, gap, overlay(image, data.mask(id)), gap, overlay(image, labels)]
    return np.concatenate(parts, axis=1)
