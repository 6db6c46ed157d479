"""`wsssbench run --isolate`: the steps of a recipe run in a sandbox that has no masks to read.

`sandbox` says what bubblewrap mounts, `staging` writes the images and tags that a step may see, `box` is one
sandbox with a `worker` in it, `boxed` puts steps into boxes, `strangers` describes plugins without importing
them here, and `marks` remembers what was made so. Nothing of it enters a key; judging stays outside. What the
wall holds and what it does not is in docs/isolation.md: claim no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from wsssbench.planning.cells import PlannedStep, Trial
    from wsssbench.running.isolation.boxed import Isolation
    from wsssbench.types import Step


def runner(isolation: Isolation | None, trial: Trial, planned: PlannedStep) -> Step:
    """What fits and restores a step: the step itself, or a box around it."""
    if isolation is None:
        return planned.step
    from wsssbench.running.isolation.boxed import BoxedStep

    return cast("Step", BoxedStep(isolation, trial, planned))  # the engine's own context and artifacts
