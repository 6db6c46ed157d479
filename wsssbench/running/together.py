"""`wsssbench run` under torchrun: the first process runs everything, the others share its trainings.

Here is who does what, and how all of them end; what they say to each other is in `wsssbench.distributed`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsssbench.distributed.launch import Launch
from wsssbench.distributed.team import Team, open_team
from wsssbench.errors import WsssError
from wsssbench.machine.hardware import compute_deterministically, resolve_hardware
from wsssbench.machine.interrupts import INTERRUPTED
from wsssbench.machine.process import use_machine
from wsssbench.planning.cells import Cell
from wsssbench.planning.plan import make_plan
from wsssbench.running.following import follow

if TYPE_CHECKING:
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins

Opened = Callable[[], "tuple[Settings, Plugins]"]


def run_together(
    flags: Mapping[str, Any], launch: Launch, lead: Callable[[Team], int], opened: Opened
) -> int:
    """The exit code of this process: the first one `lead`s, the others plan what is `opened` and follow."""
    team = open_team(launch)
    os.environ.setdefault("NUMBA_NUM_THREADS", str(team.threads))  # read when numba is imported
    return led(team, lead) if launch.leads else followed(team, flags, opened)


def led(team: Team, lead: Callable[[Team], int]) -> int:
    """What `lead` returns; however it ends, the others are let go."""
    code = 1
    try:
        code = lead(team)
    except WsssError as error:
        code = error.code
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED
        raise
    finally:
        team.end(code)
    return code


def followed(team: Team, flags: Mapping[str, Any], opened: Opened) -> int:
    """0, or 130 after an interruption: how the run went is said, and answered for, by the first process."""
    plans: list[tuple[Settings, Sequence[Cell]]] = []

    def plan() -> Sequence[Cell]:
        if flags.get("deterministic"):
            compute_deterministically()
        settings, plugins = opened()
        settings = team.settings(settings)
        cells = make_plan(settings, plugins)
        plans.append((settings, cells))
        return cells

    try:
        if not team.answer_plan(plan):
            return 0
        use_machine(team.threads)
        settings, cells = plans[0]
        code = follow(team, cells, resolve_hardware(settings), settings.limit)
        return INTERRUPTED if code == INTERRUPTED else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        team.leave()
