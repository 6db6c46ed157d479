"""A foreign program as a step: images and tags in, files out, in an environment of its own.

So a method that pins another torch enters the table. It is handed a staged folder (`program_folder`) and
leaves one file per image, of any format that `wsssbench score` reads. The images to predict come under
made-up names (0000, 0001, ...), since a predictor does not get their ids. Nothing keeps the program from
reading what its user may read: that no masks are handed to it is not enforced.

Cost: the program starts again for every `images_per_run` images, which are in memory until it ends (500 VOC
images: 0.3 GB). What it has written is kept: after an interruption the images of finished runs are not given
to the same command again, those of the run that was cut off are.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.dumps.formats import AUTO
from wsssbench.errors import WsssError
from wsssbench.identity import content_key
from wsssbench.types import (
    Artifacts,
    Context,
    DatasetCard,
    Kind,
    Outputs,
    Predictor,
    Sample,
    Step,
    StepCard,
    View,
    option,
)
from wsssbench_methods.foreign_files import (
    FileOptions,
    check_class,
    checked_supervision,
    kind_of_format,
    palettes_of,
    read_outputs,
)
from wsssbench_methods.program_folder import ProgramFolder
from wsssbench_methods.programs import check_command, fill_places, run_program, split_command

SHARED = ("images", "list", "classes", "tags", "model", "device", "seed")
PREDICT_PLACES, TRAIN_PLACES = (*SHARED, "out"), (*SHARED, "masks")


@dataclass(frozen=True)
class CommandConfig(FileOptions):
    """Options of `command`."""

    command: str | tuple[str, ...] = option(
        (),
        "program and arguments, no shell; {images} {list} {classes} {tags} {out} {model} {device} {seed} are "
        "filled in; without tags there is no file {tags}",
    )
    train: str | tuple[str, ...] = option(
        (), "the same for training, {masks} in the place of {out}; its weights belong in {model}"
    )
    gives: Literal["labels", "maps", "probs"] = option("labels", "what the program writes")
    supervision: tuple[str, ...] = option(
        ("tags",), "what the program learns from, or has learned from; nothing else is handed to it"
    )
    time_limit: float = option(0.0, "seconds that one run of the program may take; 0: any", key=False, low=0)
    images_per_run: int = option(
        500, "images that one run of the program is handed; they are in memory meanwhile", key=False, low=1
    )
    version: str = option(
        "", "of the program: its command line is in the row's key, the content of its files is not"
    )


class CommandPredictor(Predictor):
    """Runs the program on the images that it is asked for, or reads what it has written for them before."""

    def __init__(self, config: CommandConfig, ctx: Context) -> None:
        self.config, self.ctx = config, ctx
        self.images_per_call = config.images_per_run
        self.words = split_command(config.command, "command.command")

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        samples = _samples(images, tags if "tags" in self.config.supervision else None)
        key = content_key({"command": self.words, "version": self.config.version, "of": _digest(samples)})
        tree = ProgramFolder(self.ctx.workdir / "predicted" / key[:16])
        if tree.is_done(key):
            return self._read(tree, samples)
        run_staged(tree, self.words, samples, self.config, self.ctx)
        found = self._read(tree, samples)
        tree.finish(key)  # only now: files with an error are made again
        return found

    def _read(self, tree: ProgramFolder, samples: Sequence[Sample]) -> list[Outputs]:
        out, card, config = tree.places["out"], self.ctx.card, self.config
        palettes = palettes_of(card)

        def outputs(sample: Sample) -> Outputs:
            height, width, _ = sample.image.shape
            return read_outputs(out, sample.id, (height, width), card, config.gives, config, palettes)

        return [outputs(sample) for sample in samples]


def run_staged(
    tree: ProgramFolder,
    words: Sequence[str],
    samples: Sequence[Sample],
    config: CommandConfig,
    ctx: Context,
) -> None:
    """Stage `samples` and run the program on them; WsssError where it fails."""
    model = ctx.workdir.resolve() / "model"
    model.mkdir(parents=True, exist_ok=True)
    with ctx.phase("staging"):
        tree.stage(samples, ctx.card)
    seed = ctx.seed("program") % 2**31  # what numpy and most programs take
    places = {**tree.places, "model": model, "device": ctx.device, "seed": seed}
    with ctx.phase("program"):
        run_program(fill_places(words, places), tree.log, config.time_limit)


def _samples(images: Sequence[Tensor], tags: NDArray[np.bool_] | None) -> list[Sample]:
    arrays = [np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()) for image in images]
    return [Sample(f"{n:04}", array, None if tags is None else tags[n]) for n, array in enumerate(arrays)]


def _digest(samples: Sequence[Sample]) -> str:
    """sha256 (hex) of pixels and tags."""
    whole = hashlib.sha256()
    for sample in samples:
        tags = "" if sample.tags is None else sample.tags.astype(int).tolist()
        whole.update(f"{sample.image.shape} {tags}\n".encode())
        whole.update(sample.image.tobytes())
    return whole.hexdigest()


class Command(Step):
    """A foreign program, run on a staged folder of images; 255 in its labels where it abstains."""

    Config = CommandConfig
    card = StepCard("command", "1", "one-step", supervision=("unknown",), gives=("labels", "maps", "probs"))

    def __init__(self, config: CommandConfig) -> None:
        self.config = config
        if config.format != AUTO and kind_of_format(config.format, "command.format") != config.gives:
            what = f"{config.format} holds {kind_of_format(config.format, '')}, not {config.gives}"
            raise WsssError(what, where="command.format", hint="let command.gives say what the format holds")
        self.card = replace(
            self.card,
            supervision=checked_supervision(config.supervision, "command.supervision"),
            gives=(config.gives,),
            needs_threshold=config.gives == "maps",
        )

    def ready(self) -> None:
        """WsssError where the command lines cannot be run."""
        words = split_command(self.config.command, "command.command")
        if not any("{out}" in word for word in words):
            what = "the command does not say where its files go" if words else "no program is named"
            hint = "as command = ['/opt/env/bin/python', 'infer.py', '{images}', '{tags}', '{out}']"
            raise WsssError(what, where="command.command", hint=hint)
        check_command(words, PREDICT_PLACES, "command.command")
        train = split_command(self.config.train, "command.train")
        if train:
            denied = {"tags", "masks"} - set(self.config.supervision)
            check_command(train, [p for p in TRAIN_PLACES if p not in denied], "command.train")

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        check_class(self.config, card, "command")

    def fit(self, train: View, given: Artifacts, ctx: Context) -> CommandPredictor:
        self.ready()
        words = split_command(self.config.train, "command.train")
        key = content_key({"command": words, "version": self.config.version})
        tree = ProgramFolder(ctx.workdir / "train")
        if words and not tree.is_done(key):
            shutil.rmtree(ctx.workdir / "predicted", ignore_errors=True)  # of other weights
            run_staged(tree, words, train, self.config, ctx)
            tree.finish(key)
        return self.restore(ctx)

    def restore(self, ctx: Context) -> CommandPredictor:
        return CommandPredictor(self.config, ctx)
