"""Trainings that forked processes share, beside the same ones in a single process: material of
test_distributed.py, started by rank_commands.py. `every_size(FOLDER)` leaves <case>-<rank>.npz and
said-<rank>.json in FOLDER/<size>.

The heavy imports happen once, in the process that asks; each rank is a fork of it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch._dynamo  # the first step of an optimizer imports it, in seconds

from wsssbench.distributed.launch import find_launch
from wsssbench.errors import BadData
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, JointNet, Segmenter
from wsssbench.nets.segment_heads import HeadPlan
from wsssbench.plugins.options import build_config
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.train import Losses, Schedule, make_optimizer, train
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.types import IGNORE, View
from wsssbench_methods.classifier import ClassifierPlan, fit_tags, new_classifier
from wsssbench_methods.rrm import joint
from wsssbench_methods.rrm.losses import EnergyPlan
from wsssbench_methods.rrm.step import Rrm
from wsssbench_methods.segment_training import SegmentPlan, train_segmenter

if TYPE_CHECKING:
    from wsssbench.distributed.team import Team

RULE = CropRule(32, (0.7, 1.3))
HEAD = HeadPlan("detail", 8, 1)


def in_ranks(size: int, logs: Path, work: Callable[[], int | None], waited: bool = True) -> list[int]:
    """Run `work` in so many forks, as torchrun would start them (a single one alone); their exit codes, or
    their process ids where they are not `waited` for. What they print goes to `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(size):
        pid = os.fork()
        if not pid:
            env = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
            if size > 1:
                os.environ.update({name: str(value) for name, value in env.items()})
                os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
            _work(work, logs, rank)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] if waited else pids


def _work(work: Callable[[], int | None], logs: Path, rank: int) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(logs / f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    code = 1
    try:
        code = work() or 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# ------------------------------------------------------------------------------------------------ trainings


def context(folder: Path, rank: int) -> RunContext:
    folder.mkdir(parents=True, exist_ok=True)
    kind = RunContext
    if rank:
        from wsssbench.running.together import SilentContext as kind  # type: ignore[assignment]
    return kind("cpu", "fp32", "lattice", TinyDataset.card, folder, None, 3, "toy")


def schedule(steps: int, clip: float = 0.0) -> Schedule:
    """SGD: the first step of AdamW divides gradients by themselves, and rounding becomes as large as they.

    Without `clip`, which would hide a wrong factor of the whole gradient.
    """
    return Schedule(steps, 0.01, head_factor=2.0, optimizer="sgd", clip=clip)


def classifier(ctx: RunContext, steps: int) -> torch.nn.Module:
    """The classification loss, five images a batch: one process has two of them, the other one three."""
    plan = ClassifierPlan("small", 8, "", 0.0, RULE, 5, schedule(steps))
    return fitted(plan, ctx)


def clipped(ctx: RunContext, steps: int) -> torch.nn.Module:
    """The same with a gradient that is cut short."""
    plan = ClassifierPlan("small", 8, "", 0.0, RULE, 5, schedule(steps, clip=0.01))
    return fitted(plan, ctx)


def fitted(plan: ClassifierPlan, ctx: RunContext) -> torch.nn.Module:
    net = new_classifier(plan, "", ctx)
    fit_tags(net, View(TinyDataset(), "train", ("tags",)), plan, ctx)
    return net


def first_ids(view: View, ctx: RunContext, purpose: str, batch: int, own: slice) -> set[str]:
    """Ids of a part of the first batch, whoever asks."""
    order = np.random.default_rng((ctx.seed(purpose), 1 << 32, 0)).permutation(len(view))
    return {view.ids[k] for k in order[:batch][own]}


def jointly(ctx: RunContext, steps: int, mined: Any = None) -> torch.nn.Module:
    """RRM's joint loss on one batch of four, mined as ever or by `mined`."""
    options = {
        "preset": "tiny",
        "dropout": 0.0,
        "steps": steps,
        "batch": 4,
        "optimizer": "sgd",
        "lr": 0.01,
        "clip": 0.0,
    }
    config: Any = build_config("rrm", Rrm, options)
    torch.manual_seed(1)
    net = JointNet(Classifier(Backbone("small", 8), 2, 0.0), HEAD)
    kept, joint.mine = joint.mine, mined or joint.mine
    try:
        joint.train_jointly(net, View(TinyDataset(), "train", ("tags",)), config, ctx)
    finally:
        joint.mine = kept
    return net


def one_side_unmined(ctx: RunContext, steps: int) -> torch.nn.Module:
    """The same, where no pixel of the second half is labelled and few of the first are foreground."""
    view = View(TinyDataset(), "train", ("tags",))
    blank = first_ids(view, ctx, "joint/crops", 4, slice(2, 4))

    def mined(cam: Any, colours: torch.Tensor, batch: Batch, *rest: Any) -> torch.Tensor:
        labels = (colours.sum(1) % 16).clamp(max=3).to(torch.uint8)
        labels[labels == 3] = IGNORE
        labels[torch.tensor([id in blank for id in batch.ids])] = IGNORE
        return labels

    return jointly(ctx, steps, mined)


def segmenter(ctx: RunContext, steps: int, energy: bool = True) -> torch.nn.Module:
    """Balanced cross-entropy of two scales and energy (or plain cross-entropy), the first half unlabelled."""
    torch.manual_seed(1)
    net = Segmenter(Backbone("small", 8), 2, HEAD)
    view = View(TinyDataset(), "train", ("tags", "masks"))
    blank = first_ids(view, ctx, "crops", 4, slice(0, 2))
    plan = SegmentPlan(schedule(steps), RULE, 4, (1.0, 0.5), EnergyPlan(1e-7, 0.5, 100, 15, "true"))
    plan = plan if energy else SegmentPlan(schedule(steps), RULE, 4)

    def labels(sample: Any) -> Any:
        return np.full_like(sample.mask, IGNORE) if sample.id in blank else sample.mask

    train_segmenter(net, view, plan, ctx, labels)
    return net


def plain_segmenter(ctx: RunContext, steps: int) -> torch.nn.Module:
    return segmenter(ctx, steps, energy=False)


CASES: dict[str, Callable[[RunContext, int], torch.nn.Module]] = {
    "classifier": classifier,
    "clipped": clipped,
    "joint": jointly,
    "joint, one half unmined": one_side_unmined,
    "segmenter, joint loss": segmenter,
    "segmenter": plain_segmenter,
}


def keep(net: torch.nn.Module, path: Path) -> None:
    """Gradients of the last step, weights and statistics."""
    grads = {f"grad {n}": p.grad.numpy() for n, p in net.named_parameters() if p.grad is not None}
    np.savez(path, **grads, **{f"state {name}": value.numpy() for name, value in net.state_dict().items()})


# --------------------------------------------------------------------------------------------------- faults


class OneBadImage(TinyDataset):
    """One image of the second half of the first batch cannot be read."""

    bad: str = ""

    def image(self, id: str) -> Any:
        if id == self.bad:
            raise BadData("damaged image", where=id)
        return super().image(id)


def toy(ctx: RunContext, loss: Callable[[Any, int], Any], data: TinyDataset | None = None) -> None:
    """Three steps of a small network."""
    torch.manual_seed(1)
    net, plan = torch.nn.Linear(3, 1), Schedule(3, 0.01)
    crops = CropBatches(View(data or TinyDataset(), "train", ("tags",)), RULE, 4, ctx.seed("crops"))
    steps: list[int] = []

    def losses(batch: Batch) -> Losses:
        steps.append(1)
        value = net(batch.images.float().mean((2, 3)) / 255).mean()
        return {"total": loss(value, len(steps))}

    train(ctx, "toy", net, make_optimizer(net, [], plan), crops, losses, plan)


def in_second(team: Team | None) -> bool:
    return team is None or team.launch.rank == 1


def unreadable(ctx: RunContext, team: Team | None) -> None:
    data = OneBadImage()
    data.bad = min(first_ids(View(data, "train", ("tags",)), ctx, "crops", 4, slice(2, 4)))
    toy(ctx, lambda value, step: value, data)


def raising(ctx: RunContext, team: Team | None) -> None:
    def loss(value: Any, step: int) -> Any:
        if step == 2 and in_second(team):
            raise ValueError("no memory")
        return value

    toy(ctx, loss)


def refused(ctx: RunContext, team: Team | None) -> None:
    def loss(value: Any, step: int) -> Any:
        if in_second(team):
            raise BadData("damaged", where="a.png", hint="remove it")
        return value

    toy(ctx, loss)


def no_number(ctx: RunContext, team: Team | None) -> None:
    toy(ctx, lambda value, step: value / 0 if step == 2 and in_second(team) else value)


def interrupted(ctx: RunContext, team: Team | None) -> None:
    def loss(value: Any, step: int) -> Any:
        if step == 2 and in_second(team):
            os.kill(os.getpid(), signal.SIGTERM)
        return value

    toy(ctx, loss)


def sound(ctx: RunContext, team: Team | None) -> None:
    toy(ctx, lambda value, step: value)


FAULTS: dict[str, Callable[[RunContext, Team | None], None]] = {
    "unreadable": unreadable,
    "raising": raising,
    "refused": refused,
    "no number": no_number,
    "interrupted": interrupted,
    "sound": sound,
}


# -------------------------------------------------------------------------------------------------- the run


def every_case(folder: Path) -> None:
    """All cases in this process, alone or with the others of its launch."""
    torch.set_num_threads(1)
    launch, team, rank = find_launch(), None, 0
    if launch is not None:
        from wsssbench.distributed.team import open_team

        team, rank = open_team(launch), launch.rank

    def shared(work: Callable[[], Any]) -> Any:
        if team is None:
            return work()
        if not team.leads:
            team.next_order()
        with team.training("cpu"):
            return work()

    for name, case in CASES.items():
        for steps in (1, 3):
            ctx = context(folder / f"{name}-{steps}", rank)
            keep(shared(lambda: case(ctx, steps)), folder / f"{name}-{steps}-{rank}.npz")  # noqa: B023
    said = {}
    for name, fault in FAULTS.items():
        ctx = context(folder / name, rank)
        try:
            shared(lambda: fault(ctx, team))  # noqa: B023
            said[name] = ["", ""]
        except BaseException as error:
            said[name] = [type(error).__name__, str(error)]
    (folder / f"said-{rank}.json").write_text(json.dumps(said))
    if team is not None and team.leads:  # who leads keeps the store: it goes last, as in a run
        team.end(0)
    elif team is not None:
        team.next_order()
        team.leave()


def impatient() -> None:
    """The second process fails as on a GPU, while the first one cannot be woken."""
    from wsssbench.distributed import team as module

    launch = find_launch()
    assert launch is not None
    team = module.open_team(launch)
    with team.training("cpu"):
        if launch.leads:
            time.sleep(2)
            os._exit(0)
        module.PATIENCE, team.on_gpu = 0.1, True
        raise ValueError("out of luck")


def every_size(root: Path) -> None:
    """All cases by one process and by two."""
    for size in (1, 2):
        codes = in_ranks(size, root / str(size), lambda: every_case(root / str(size)))  # noqa: B023
        if any(codes):
            raise SystemExit("\n".join(path.read_text() for path in (root / str(size)).glob("err*")))
    (root / "2/codes-patience.json").write_text(json.dumps(in_ranks(2, root / "2/patience", impatient)))
