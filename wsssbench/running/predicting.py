"""How a predictor is asked, whatever it is: by the look of images, or by ids where its outputs were made
elsewhere; and how its answers are kept."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from wsssbench.artifacts import ArtifactFolder
from wsssbench.types import Dataset, Kind, Outputs, Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from wsssbench.identity import Stage
    from wsssbench.running.screen.tasks import Task


def looks_up(predictor: Predictor) -> bool:
    """Whether its outputs were made elsewhere: it is asked by the ids of images, never by their look."""
    return type(predictor).look_up is not Predictor.look_up


def outputs_of(
    predictor: Predictor,
    ids: Sequence[str],
    images: Sequence[Tensor],
    tags: NDArray[np.bool_] | None,
    given: Sequence[Outputs],
    want: frozenset[Kind],
) -> Sequence[Outputs]:
    """What a predictor says of the images called `ids`; the names reach it only where it looks labels up."""
    found = predictor.look_up(ids, images)
    return predictor(images, tags, given, want) if found is None else found


def predict_missing(
    predictor: Predictor, data: Dataset, folder: ArtifactFolder, before: ArtifactFolder | None,
    kinds: Sequence[Kind], task: Task,
    *, device: str, tags_given: bool, stage: Stage | None = None, todo: Collection[str] = (),
) -> None:  # fmt: skip
    """Ask a predictor about the images of `folder` that lack one of `kinds` (or about `todo` of them), and
    keep what it says there; what is there already stays. `stage` may ask for several views of an image."""
    import numpy as np
    import torch

    if stage is not None and stage.multi_scale:
        from wsssbench.running.scales import MultiScale

        predictor = MultiScale(predictor, stage.scales, flip=stage.flip)
    todo = set(todo or folder.missing(kinds))
    start, done = time.perf_counter(), len(folder) - len(todo)
    size = predictor.images_per_call
    for first in range(0, len(folder), size):
        # after an interruption the same images go together as without it: the last bits depend on that
        ids = folder.ids[first : first + size]
        if todo.isdisjoint(ids):
            continue
        images = [
            torch.from_numpy(np.ascontiguousarray(data.image(id).transpose(2, 0, 1))).to(device) for id in ids
        ]
        tags = np.stack([data.tags(id) for id in ids]) if tags_given else None
        given = [before[id] for id in ids] if before is not None else [Outputs()] * len(ids)
        found = outputs_of(predictor, ids, images, tags, given, frozenset(kinds))
        for id, outputs in zip(ids, found, strict=True):
            if id in todo:
                # what is there may have been judged, and a GPU may say it again with other last bits
                folder.write(id, outputs, folder.lacking(id, kinds))
        done += len(todo.intersection(ids))
        task.update(done, len(folder), len(ids), {})
    folder.add_cost(len(todo), time.perf_counter() - start)
