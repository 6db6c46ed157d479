"""Steps in sandboxes: fitted in one, asked for outputs in another, so that what a step has learned is what
lies in its folder.

What it says is written to a folder that is shown to the sandbox, and is read here when the sandbox is gone,
by the readers for files of other tools. Links are refused: they would be followed by a process that may read
the masks.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import BadData
from wsssbench.files.locks import HOLDER, LOCK, hold
from wsssbench.identity import Stage, content_key, plain
from wsssbench.machine.hardware import is_deterministic
from wsssbench.machine.timing import Cost
from wsssbench.planning.cells import PlannedStep, Trial
from wsssbench.planning.plan import learned_content
from wsssbench.records.store import FITTED, KEY
from wsssbench.running.fits import chain_of
from wsssbench.running.isolation.box import Events, ask
from wsssbench.running.isolation.marks import ARTIFACTS, MARK, SHARED, STAGED
from wsssbench.running.isolation.sandbox import Mount
from wsssbench.running.isolation.staging import IMAGES, MASKS, TAGS, stage_images
from wsssbench.running.isolation.strangers import source_of, step_told
from wsssbench.types import Kind, View

if TYPE_CHECKING:
    from wsssbench.running.context import RunContext
    from wsssbench.running.screen.tasks import Task

SHOWN, GIVEN, MADE = Path("/staged"), Path("/given"), Path("/made")  # of a sandbox
OURS = (LOCK, HOLDER, KEY, MARK, FITTED, "cost.json")  # in a step's folder; a sandbox may not write them
NEW = ".made"  # in a folder of outputs: those that a sandbox has made and that are not read yet
TOLD = ("device", "precision", "filter_backend", "card", "limit", "run_seed", "step", "data")  # of a context


class Isolation:
    """The sandboxes of one run, and the images that are staged for them until the end of `with`."""

    def __init__(self, sandbox: str, say: Callable[[str], None]) -> None:
        self.sandbox, self.say = sandbox, say  # name and version, for records
        self._trees: dict[str, Path] = {}
        self._held = ExitStack()  # their folders, so that nobody takes them for left behind

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, *error: object) -> None:
        for root in self._trees.values():
            shutil.rmtree(root, ignore_errors=True)
        self._held.close()

    def step(self, trial: Trial, planned: PlannedStep) -> BoxedStep:
        """What fits a planned step in a sandbox, and asks it for outputs in another."""
        return BoxedStep(self, trial, planned)

    def staged(self, trial: Trial, ids: Sequence[str], kinds: Sequence[str], base: Path) -> Iterator[Mount]:
        """Folders with those `kinds` (images, tags, masks) of the images `ids`, written where they lack."""
        key = content_key([learned_content(trial.dataset), list(ids)])
        if key not in self._trees:
            base.mkdir(parents=True, exist_ok=True)
            self._trees[key] = Path(tempfile.mkdtemp(prefix=STAGED, dir=base))
            self._held.enter_context(hold(self._trees[key], self.say))
        stage_images(self._trees[key], trial.dataset, ids, kinds)
        yield from (Mount(self._trees[key] / kind, SHOWN / kind) for kind in kinds)


class BoxedStep:
    """A step of which `fit` and the predictions run in sandboxes."""

    def __init__(self, isolation: Isolation, trial: Trial, planned: PlannedStep) -> None:
        self.isolation, self.trial, self.planned = isolation, trial, planned
        # a step also knows what the steps before it knew
        seen = {name for before in chain_of(planned) for name in before.step.card.supervision}
        self.work = planned.folder.resolve()
        self.shared = self.work.parent / SHARED / ("+".join(sorted(seen)) or "nothing")

    def fit(self, view: View, given: ArtifactFolder, ctx: RunContext) -> None:
        """As `Step.fit`, on staged images; BadData where the step leaves links in its folder."""
        kinds = [IMAGES, *(kind for kind in (TAGS, MASKS) if kind in view.supervision)]
        request = {"do": "fit", "split": view.split, "supervision": view.supervision}
        events = {"spent": lambda *spent: _count(ctx, *spent)}
        self._ask(ctx, request, events, view.ids, kinds, given if len(given) else None)

    def predict(
        self, ctx: RunContext, split: str, folder: ArtifactFolder, before: ArtifactFolder | None,
        kinds: Sequence[Kind], task: Task, *, tags_given: bool, stage: Stage | None,
    ) -> None:  # fmt: skip
        """As `predict_missing`; what is done is kept, also after an interruption."""
        made = ArtifactFolder(folder.folder / NEW, folder.ids)
        if made.folder.exists():  # of a run that was killed
            _take(made, folder, kinds)
        todo = folder.missing(kinds)
        request = {
            "do": "predict", "split": split, "kinds": kinds, "todo": todo, "tags_given": tags_given,
            "stage": stage,
        }  # fmt: skip
        shown = (IMAGES, TAGS) if tags_given else (IMAGES,)
        made.folder.mkdir()
        ctx.task = task
        try:
            self._ask(ctx, request, {}, folder.ids, shown, before, Mount(made.folder, MADE, writable=True))
        finally:
            _take(made, folder, kinds)

    def _ask(
        self, ctx: RunContext, request: Mapping[str, Any], events: Events, ids: Sequence[str],
        kinds: Sequence[str], given: ArtifactFolder | None, *mounts: Mount,
    ) -> None:  # fmt: skip
        step, source = self.planned.step, source_of(self.planned.step)
        inside = source.inside(step.config, type(step))
        data = self.isolation.staged(self.trial, ids, kinds, self.shared.parent)
        before = [Mount((given.folder / k).resolve(), GIVEN / k) for k in given.kinds] if given else []
        inside = replace(
            inside, mounts=(*self._folders(), *inside.mounts, *data, *before, *mounts),
            hidden=(self.work / ARTIFACTS,), device=ctx.device, start=self.work,
        )  # fmt: skip
        told = {**request, **step_told(step), **_told(ctx), "ids": ids, "given": given.kinds if given else ()}
        told["context"]["workdir"] = self.work
        if ctx.task is not None:
            events = {**events, "task": ctx.task.update}
        if ctx.board is not None:
            events = {**events, "board": ctx.board.progress}
        try:
            ask(inside, plain(told), {"say": self.isolation.say, **events})
        finally:
            refuse_links(self.work)
            refuse_links(self.shared)

    def _folders(self) -> Iterator[Mount]:
        """The shared folder lies where steps have their folders, the step's own in its place there."""
        self.shared.mkdir(parents=True, exist_ok=True)
        refuse_links(self.work)
        refuse_links(self.shared)
        (self.work / ARTIFACTS).mkdir(parents=True, exist_ok=True)
        yield Mount(self.shared, self.work.parent, writable=True)
        yield Mount(self.work, self.work, writable=True)
        for name in OURS:
            if (self.work / name).is_file():
                yield Mount(self.work / name, self.work / name)


def _told(ctx: RunContext) -> dict[str, Any]:
    import torch

    context = {name: getattr(ctx, name) for name in TOLD}
    context["renewed"] = None if ctx.renewed is None else [path.resolve() for path in ctx.renewed]
    return {
        "context": context, "board": ctx.board is not None, "threads": torch.get_num_threads(),
        "deterministic": is_deterministic(),
    }  # fmt: skip


def _count(
    ctx: RunContext, images: int, away: float, costs: Mapping[str, Any], phases: Mapping[str, float],
    renewed: Sequence[str],
) -> None:  # fmt: skip
    """What a fit has cost in its sandbox, into the context of the run."""
    ctx.images += images
    ctx.away += away
    ctx.costs |= {Path(folder): Cost(**cost) for folder, cost in costs.items()}
    ctx.timer.seconds.update(phases)
    if ctx.renewed is not None:
        ctx.renewed |= set(map(Path, renewed))


def _take(made: ArtifactFolder, folder: ArtifactFolder, kinds: Sequence[Kind]) -> None:
    """Read the outputs that a sandbox has made, keep those that `folder` lacks, and remove the rest."""
    try:
        refuse_links(made.folder)
        for id in folder.missing(kinds):
            if not made.lacking(id, kinds):
                folder.write(id, made.read(id, kinds), folder.lacking(id, kinds))
        cost = made.cost()
        if cost["images"]:
            folder.add_cost(int(cost["images"]), float(cost["seconds"]))
    finally:
        shutil.rmtree(made.folder)


def refuse_links(folder: Path) -> None:
    """BadData where anything but files and folders lies below `folder`: a link may lead to the masks.

    What is found is removed: nobody has followed it.
    """
    bad = [path for path in _entries(folder) if not _is_plain(path)]
    for path in bad:
        with suppress(OSError):
            path.unlink()
    if bad:
        what = f"a step left something that is not a plain file in its folder: {bad[0].name}"
        hint = "it is removed; a step in a sandbox may write files and folders alone"
        raise BadData(what, where=bad[0].parent, hint=hint)


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        yield folder
        return
    for place, folders, files in os.walk(folder):  # does not follow links
        if Path(place) == folder and ARTIFACTS in folders and not (folder / ARTIFACTS).is_symlink():
            folders.remove(ARTIFACTS)  # the engine's own, and of no box
        yield from (Path(place) / name for name in (*folders, *files))


def _is_plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
