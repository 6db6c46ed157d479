"""Steps in boxes: the engine asks them to fit and to predict as ever, and a sandbox does it.

One box is open at a time. A step is fitted in one and asked in another, so that what it has learned is what
lies in its folder.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wsssbench.artifacts import ArtifactFolder
from wsssbench.files.locks import hold
from wsssbench.identity import content_key, plain
from wsssbench.machine.hardware import is_deterministic
from wsssbench.machine.timing import Cost
from wsssbench.planning.cells import PlannedStep, Trial
from wsssbench.planning.plan import learned_content
from wsssbench.running.fits import chain_of
from wsssbench.running.isolation.box import Box
from wsssbench.running.isolation.folders import Folders, refuse_links
from wsssbench.running.isolation.frames import packed_outputs, unpacked_outputs
from wsssbench.running.isolation.marks import ARTIFACTS
from wsssbench.running.isolation.places import STAGED
from wsssbench.running.isolation.sandbox import Inside, Mount
from wsssbench.running.isolation.sources import source_of
from wsssbench.running.isolation.staging import StagedTree
from wsssbench.running.isolation.telling import file_mounts, plugin_mounts, step_told
from wsssbench.types import Kind, Outputs, Predictor, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.running.context import RunContext

SHOWN, GIVEN = Path("/staged"), Path("/given")  # of a sandbox


class Isolation:
    """The boxes of one run, and the images that were staged for them; `with` it both are gone at the end."""

    def __init__(self, sandbox: str, say: Callable[[str], None]) -> None:
        self.sandbox, self.say = sandbox, say  # name and version, for records
        self._open: tuple[str, Box] | None = None  # key of the step, and its box
        self._trees: dict[str, StagedTree] = {}
        self._held = ExitStack()  # their folders, so that nobody takes them for left behind

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        for tree in self._trees.values():
            shutil.rmtree(tree.root, ignore_errors=True)
        self._held.close()

    def box(self, key: str, inside: Callable[[], Inside]) -> tuple[Box, bool]:
        """The box of the step with that key, and whether it is new; another step's box is closed."""
        if self._open is not None and self._open[0] == key:
            return self._open[1], False
        self.close()
        self._open = (key, Box(inside(), self.say))
        return self._open[1], True

    def close(self) -> None:
        """Close the box that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def staged(self, trial: Trial, view: View, base: Path) -> tuple[StagedTree, tuple[str, ...]]:
        """The staged tree of a trial's fit split with what `view` shows, and the kinds that it shows."""
        key = content_key([learned_content(trial.dataset), list(view.ids)])
        if key not in self._trees:
            base.mkdir(parents=True, exist_ok=True)
            root = Path(tempfile.mkdtemp(prefix=STAGED, dir=base))
            self._held.enter_context(hold(root, self.say))
            self._trees[key] = StagedTree(root)
        return self._trees[key], self._trees[key].stage(view)


class BoxedStep:
    """A step of which `fit` and `restore` run in a sandbox."""

    def __init__(self, isolation: Isolation, trial: Trial, planned: PlannedStep) -> None:
        self.isolation, self.trial, self.planned = isolation, trial, planned

    def fit(self, train: View, given: ArtifactFolder, ctx: RunContext) -> Predictor:
        """As `Step.fit`, on staged images; BadData where the step leaves links in its folder."""
        folders = self._folders(ctx)
        tree, kinds = self.isolation.staged(self.trial, train, folders.shared.parent)
        mounts = [Mount(tree.root / kind, SHOWN / kind) for kind in kinds]
        for kind in given.kinds if len(given) else ():
            refuse_links(given.folder / kind)
            mounts.append(Mount((given.folder / kind).resolve(), GIVEN / kind))
        request = {
            "do": "fit", "staged": str(SHOWN), "split": train.split, "ids": list(train.ids),
            "supervision": sorted(train.supervision), "given": str(GIVEN), "given_ids": list(given.ids),
            "given_kinds": list(given.kinds), "print": self.trial.dataset.fingerprint(train.split),
        }  # fmt: skip
        self.isolation.close()
        box, _ = self.isolation.box(self.planned.key, lambda: self._inside(ctx, folders, mounts))
        try:
            box.ask({**self._told(ctx, folders), **request}, heard=lambda said: _heard(said, ctx))
        finally:
            self.isolation.close()
            refuse_links(folders.work)
            refuse_links(folders.shared)
        return self.restore(ctx)

    def restore(self, ctx: RunContext) -> Predictor:
        """As `Step.restore`."""
        predictor = BoxedPredictor(self, ctx)
        return BoxedSource(predictor) if predictor.looks_up else predictor  # type: ignore[return-value]

    def restored_box(self, ctx: RunContext) -> tuple[Box, dict[str, Any]]:
        """A box with the fitted step in it, and what it said when it was restored; empty if it was before."""
        folders = self._folders(ctx)
        box, new = self.isolation.box(self.planned.key, lambda: self._inside(ctx, folders, ()))
        if not new:
            return box, {}
        return box, box.ask({**self._told(ctx, folders), "do": "restore"})[0]

    def _folders(self, ctx: RunContext) -> Folders:
        # a step also knows what the steps before it knew
        seen = {name for planned in chain_of(self.planned) for name in planned.step.card.supervision}
        return Folders(ctx.workdir.resolve(), "+".join(sorted(seen)) or "nothing")

    def _inside(self, ctx: RunContext, folders: Folders, mounts: Sequence[Mount]) -> Inside:
        step = self.planned.step
        source = source_of(step)
        files = (*plugin_mounts(source), *file_mounts(type(step), step.config))
        return Inside(
            mounts=(*folders.mounts(), *files, *mounts),
            hidden=(folders.work / ARTIFACTS,),
            packages=source.packages(),
            device=ctx.device,
            start=folders.work,
        )

    def _told(self, ctx: RunContext, folders: Folders) -> dict[str, Any]:
        told: dict[str, Any] = {
            name: getattr(ctx, name)
            for name in ("device", "precision", "filter_backend", "limit", "run_seed", "step")
        }
        shared = None if ctx.renewed is None else sorted(str(path.resolve()) for path in ctx.renewed)
        told |= {"workdir": str(folders.work), "data": plain(ctx.data), "renewed": shared}
        return {
            **step_told(self.planned.step), "context": told, "card": plain(ctx.card),
            "threads": torch.get_num_threads(), "deterministic": is_deterministic(),
            "keep_memory": sys.platform.startswith("linux"), "board": ctx.board is not None,
        }  # fmt: skip


class BoxedPredictor:
    """The predictor of a step in a box; where that was closed since, the step is restored in a new one."""

    def __init__(self, step: BoxedStep, ctx: RunContext) -> None:
        self.step, self.ctx = step, ctx
        self.step.isolation.close()
        said = step.restored_box(ctx)[1]
        self.looks_up = bool(said.get("looks_up"))
        if said.get("images_per_call"):
            self.images_per_call = int(said["images_per_call"])

    def __call__(
        self,
        images: Sequence[torch.Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> list[Outputs]:
        return self.ask([""] * len(images), images, tags, given, want)

    def ask(
        self,
        ids: Sequence[str],
        images: Sequence[torch.Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> list[Outputs]:
        """Outputs of the images; `ids` reach a step only where it looks labels up."""
        box, _ = self.step.restored_box(self.ctx)
        arrays = {f"image.{n}": image.cpu().numpy() for n, image in enumerate(images)}
        arrays |= {f"given.{name}": array for name, array in packed_outputs(given).items()}
        if tags is not None:
            arrays["tags"] = tags
        request = {"do": "predict", "ids": list(ids), "count": len(images), "want": sorted(want)}
        said, found = box.ask(request, arrays)
        return unpacked_outputs(found, int(said["count"]))


class BoxedSource:
    """The same of a step that looks its labels up by the ids of images."""

    def __init__(self, predictor: BoxedPredictor) -> None:
        self.predictor = predictor

    def look_up(self, ids: Sequence[str], images: Sequence[torch.Tensor]) -> list[Outputs]:
        """As `LabelSource.look_up`."""
        nothing = [Outputs()] * len(ids)
        return self.predictor.ask(ids, images, None, nothing, frozenset())


def _heard(said: Mapping[str, Any], ctx: RunContext) -> None:
    """What a step reports from its box, into the context of the run."""
    if said["kind"] == "task" and ctx.task is not None:
        ctx.task.update(*said["update"])
    elif said["kind"] == "board" and ctx.board is not None:
        ctx.board.progress(*said["progress"])
    elif said["kind"] == "cost":
        ctx.images += int(said["images"])
        ctx.away += float(said["away"])
        ctx.costs |= {Path(folder): Cost(**cost) for folder, cost in said["costs"].items()}
        for name, seconds in said["phases"].items():
            ctx.timer.seconds[name] += float(seconds)
        if ctx.renewed is not None and said["renewed"] is not None:
            ctx.renewed |= {Path(folder) for folder in said["renewed"]}
