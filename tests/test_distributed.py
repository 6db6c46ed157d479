"""A training that processes share: gradients, weights and scores of one process, one writer, one ending."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from torch import nn

from wsssbench.cli.main import main
from wsssbench.distributed import group, leads, normaliser
from wsssbench.distributed.launch import Launch, at_work, device_of, find_launch, refuse_unshared
from wsssbench.errors import WsssError
from wsssbench.records.finding import find_records
from wsssbench.testing.tiny import TinyDataset
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.types import View

HERE = Path(__file__).resolve().parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
LAUNCH = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TIGHT = 1e-5  # relative, of float32 sums in another order; 3e-6 was seen
WEIGHTS = 5e-5  # after three steps; 4e-6 was seen
MINED = (
    1e-3  # of weights after three steps with mining: a pixel at the rule's cut may tip over; 1e-5 was seen
)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the trials fork")


def python(*words: Any, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **ONE_THREAD}
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=env, capture_output=True, text=True, check=False, **more
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


# ----------------------------------------------------------------------------------------- how it was started


def test_without_torchrun_there_is_no_launch_no_group_and_nothing_is_changed() -> None:
    assert find_launch({}) is None
    assert find_launch({"RANK": "0", "WORLD_SIZE": "2"}) is None  # nowhere to meet
    assert find_launch({**LAUNCH, "RANK": "0", "WORLD_SIZE": "1"}) is None
    assert group() is None
    assert leads()
    assert torch.equal(normaliser(torch.tensor([0.0, 7.0]), 3), torch.tensor([1.0, 7.0]))


def test_torchruns_variables_give_the_place_of_a_process() -> None:
    assert find_launch(LAUNCH) == Launch(1, 2, 1, 2)
    several = {**LAUNCH, "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert find_launch(several) == Launch(5, 8, 1, 4)
    for wrong in ({"RANK": "2"}, {"RANK": "x"}, {"WORLD_SIZE": "-1"}):
        with pytest.raises(WsssError, match="not numbers of a process"):
            find_launch({**LAUNCH, **wrong})


def test_each_process_has_a_gpu_of_its_own_or_the_cpu() -> None:
    second = Launch(3, 4, 1, 2)
    assert device_of("auto", second, 2) == device_of("cuda", second, 2) == "cuda:1"
    assert device_of("cpu", second, 2) == "cpu"
    assert device_of("auto", second, 0) == "auto"
    with pytest.raises(WsssError, match="a GPU of its own"):
        device_of("cuda:0", second, 2)
    with pytest.raises(WsssError, match="torch sees 1 GPU"):
        device_of("auto", second, 1)


@pytest.mark.parametrize(
    ("flag", "asked"),
    [("--isolate", {"isolate": True}), ("--jobs", {"jobs": 2}), ("--executor", {"executor": "local"})],
)
def test_what_one_process_alone_can_do_is_refused_by_name(
    flag: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: dict[str, Any] = {"isolate": False, "jobs": 1, "executor": "here", **asked}
    refuse_unshared(**wanted)  # without torchrun it is nobody's business
    for name, value in LAUNCH.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WsssError, match=f"{flag} does not go with torchrun"):
        refuse_unshared(**wanted)


# --------------------------------------------------------------------------------------- slices of a batch


class FakeGroup:
    """Only who and how many."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.leads = rank, size, rank == 0

    def slice_of(self, batch: int) -> tuple[int, int]:
        return batch * self.rank // self.size, batch * (self.rank + 1) // self.size


@pytest.mark.parametrize(("batch", "size"), [(4, 2), (5, 2), (7, 3), (3, 3)])
def test_slices_put_together_are_the_very_batch_of_one_process(batch: int, size: int) -> None:
    view, rule = View(TinyDataset(), "train", ("tags", "masks")), CropRule(20, (0.7, 1.3), one_scale=True)
    whole = CropBatches(view, rule, batch, 11)
    parts: list[CropBatches] = []
    for rank in range(size):
        with at_work(FakeGroup(rank, size)):  # type: ignore[arg-type]
            parts.append(CropBatches(view, rule, batch, 11))
    for step in (0, 5):
        slices = [part(step) for part in parts]
        assert sum((s.ids for s in slices), ()) == whole(step).ids
        assert torch.equal(torch.cat([s.images for s in slices]), whole(step).images)
        assert {s.whole for s in slices} == {whole(step).whole} == {batch}
        assert max(len(s.ids) for s in slices) - min(len(s.ids) for s in slices) <= 1


def test_a_batch_with_fewer_images_than_processes_is_refused() -> None:
    with at_work(FakeGroup(0, 3)), pytest.raises(WsssError, match="cannot be shared by 3"):  # type: ignore[arg-type]
        CropBatches(View(TinyDataset(), "train", ("tags",)), CropRule(20), 2, 11)


def test_a_slice_keeps_the_size_of_the_whole_batch_on_its_way_to_a_device() -> None:
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.ones(1, 2, 2).bool(), torch.ones(1, 2), None, ("a",), 4)
    assert batch.to("cpu").whole == 4


# ------------------------------------------------------------------------------ two processes against one


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/rank_commands.py leaves: whole commands, and trainings below trials/."""
    folder = tmp_path_factory.mktemp("commands")
    python(HERE / "rank_commands.py", folder)
    return folder


@pytest.fixture(scope="module")
def trials(commands: Path) -> Path:
    """The trainings of tests/rank_trials.py."""
    return commands / "trials"


def numbers(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    with np.load(path) as found:
        return {name: found[name] for name in found.files if name.startswith(kind)}


def difference(one: dict[str, NDArray[Any]], two: dict[str, NDArray[Any]]) -> float:
    """Of all numbers together, relative to their length."""
    assert one.keys() == two.keys()
    assert one
    a, b = (np.concatenate([found[name].ravel().astype(float) for name in one]) for found in (one, two))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


CASES = ("classifier", "clipped", "joint", "joint, one half unmined", "segmenter, joint loss", "segmenter")


@needs_fork
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradient_of_one(case: str, trials: Path) -> None:
    alone, shared = (numbers(trials / size / f"{case}-1-0.npz", "grad") for size in "12")
    assert difference(alone, shared) < TIGHT


@needs_fork
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_weights_and_statistics_of_one_after_three_steps(
    case: str, trials: Path
) -> None:
    alone, shared = (numbers(trials / size / f"{case}-3-0.npz", "state") for size in "12")
    start = numbers(trials / "1" / f"{case}-1-0.npz", "state")
    assert difference(start, alone) > 100 * TIGHT, "the training moves the weights by more than that"
    assert difference(alone, shared) < (MINED if case == "joint" else WEIGHTS)


@needs_fork
@pytest.mark.parametrize("case", CASES)
def test_both_processes_hold_the_same_bits(case: str, trials: Path) -> None:
    for kind in ("grad", "state"):
        one, two = (numbers(trials / "2" / f"{case}-3-{rank}.npz", kind) for rank in (0, 1))
        assert all(np.array_equal(one[name], two[name]) for name in one)


@needs_fork
def test_losses_that_are_logged_are_those_of_the_whole_batch(trials: Path) -> None:
    def log(size: str, case: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (trials / size / case / "log.jsonl").read_text().splitlines()]

    for case in ("classifier-3", "joint, one half unmined-3", "segmenter, joint loss-3"):
        alone, shared = log("1", case), log("2", case)
        assert [line["images"] for line in shared] == [line["images"] for line in alone]
        assert len(shared) == 3, "one process writes"
        for one, two in zip(alone, shared, strict=True):
            assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)


# ---------------------------------------------------------------------------------------------------- faults


def said(trials: Path) -> list[dict[str, list[str]]]:
    return [json.loads((trials / "2" / f"said-{rank}.json").read_text()) for rank in (0, 1)]


@needs_fork
def test_an_image_that_one_process_cannot_read_fails_the_training_in_all_by_its_name(trials: Path) -> None:
    first, second = (found["unreadable"] for found in said(trials))
    assert second[0] == "BadData"
    assert first[0] == "PeerFailed"
    assert first[1] == f"process 1: {second[1]}"


@needs_fork
def test_a_failure_in_the_middle_of_a_step_wakes_the_process_that_waits_and_tells_it_why(
    trials: Path,
) -> None:
    first, second = (found["raising"] for found in said(trials))
    assert second == ["ValueError", "no memory"]
    assert first == ["PeerFailed", "process 1: ValueError: no memory"]


@needs_fork
def test_a_loss_that_is_no_number_in_one_process_stops_all_with_the_same_words(trials: Path) -> None:
    first, second = (found["no number"] for found in said(trials))
    assert first == second
    assert first[0] == "TrainingFailed"
    assert "not finite: total" in first[1]


@needs_fork
def test_a_signal_to_one_process_stops_all_after_the_same_step_with_a_checkpoint(trials: Path) -> None:
    assert [found["interrupted"][0] for found in said(trials)] == ["KeyboardInterrupt"] * 2
    assert torch.load(trials / "2/interrupted/ckpt/toy.pt", weights_only=True)["step"] == 2


@needs_fork
def test_after_failures_the_same_processes_train_again(trials: Path) -> None:
    assert [found["sound"] for found in said(trials)] == [["", ""]] * 2


@needs_fork
def test_what_another_process_tells_is_raised_with_its_place_and_next_step(trials: Path) -> None:
    first, second = (found["refused"] for found in said(trials))
    assert second == ["BadData", "damaged [a.png]\n  next: remove it"]
    assert first == ["PeerFailed", "process 1: damaged [a.png]\n  next: remove it"]


@needs_fork
def test_a_process_that_failed_on_a_gpu_ends_where_the_others_do_not_answer(trials: Path) -> None:
    assert (trials / "2/codes-patience.json").read_text() == "[0, 1]"
    assert (trials / "2/patience/err1").read_text() == "error: out of luck\n"


# -------------------------------------------------------------------------------------------- whole commands


def codes(commands: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads((commands / "codes.json").read_text())
    return found


def weights(runs: Path) -> dict[str, NDArray[Any]]:
    (path,) = runs.glob("runs/*/steps/pair-*/ckpt/pair.pt")
    return {name: t.numpy() for name, t in torch.load(path, weights_only=True)["model"].items()}


@needs_fork
def test_a_shared_run_writes_one_record_under_the_key_of_one_process_and_says_how_many(
    commands: Path,
) -> None:
    (one,), (two,) = (find_records(commands / name) for name in ("alone", "two"))
    assert codes(commands)["alone"] == [0]
    assert codes(commands)["two"] == [0, 0]
    assert (two.record.key, two.record.scores) == (one.record.key, one.record.scores)
    assert two.record.identity.batch == one.record.identity.batch == {"pair.batch": 6}
    assert two.record.provenance["processes"] == {"pair": 2}
    assert "processes" not in one.record.provenance
    assert difference(weights(commands / "alone"), weights(commands / "two")) < TIGHT


@needs_fork
def test_a_process_alone_imports_nothing_for_several(commands: Path) -> None:
    several = {f"wsssbench.distributed.{room}" for room in ("team", "shared_model")}
    assert not several & set((commands / "alone/1/rooms0").read_text().split())
    assert several <= set((commands / "two/2/rooms1").read_text().split())


@needs_fork
def test_only_the_first_process_speaks(commands: Path) -> None:
    for case in ("two", "failing", "unknown", "jobs"):
        assert (commands / case / "2/err0").read_text()
        assert (commands / case / "2/err1").read_text() == (commands / case / "2/out1").read_text() == ""


@needs_fork
def test_a_process_that_fails_leaves_a_failed_record_and_the_other_cells_go_on(commands: Path) -> None:
    assert codes(commands)["failing"] == [1, 0]
    found = {stored.record.method: stored.record for stored in find_records(commands / "failing")}
    assert found["flaky"].status == "failed"
    assert "process 1: ValueError: a bad day" in found["flaky"].reason
    assert "in process 1" in next((commands / "failing").rglob("traceback.txt")).read_text()
    assert found["pair"].status == "ok"


@needs_fork
@pytest.mark.parametrize("victim", [0, 1])
def test_sigterm_to_one_process_ends_all_with_130_and_another_number_of_them_goes_on(
    victim: int, commands: Path
) -> None:
    assert codes(commands)[f"stopped {victim}"] == [130, 130]
    assert "the same command goes on from there" in (commands / f"stopped{victim}/stopped/err0").read_text()
    assert set(codes(commands)[f"resumed {victim}"]) == {0}
    log = next((commands / f"stopped{victim}").rglob("pair-*/log.jsonl")).read_text().splitlines()
    assert [json.loads(line)["done"] for line in log] == [1, 2, 3, 4, 5, 6], (
        "no step is lost, none is taken twice"
    )
    assert difference(weights(commands / "alone"), weights(commands / f"stopped{victim}")) < TIGHT


@needs_fork
def test_mistakes_end_with_one_message_before_anything_is_written(commands: Path) -> None:
    messages = {
        "small batch": "a batch of 1 cannot be shared by 2 processes [pair.batch]",
        "jobs": "--jobs does not go with torchrun",
        "isolate": "--isolate does not go with torchrun",
        "unknown": "unknown method 'nothing'",
    }
    for case, message in messages.items():
        folder = commands / case.partition(" ")[0]
        assert codes(commands)[case] == [2, 0]
        assert (folder / "2/err0").read_text().startswith(f"error: {message}")
        assert not (folder / "runs").exists()


@needs_fork
def test_a_dry_run_prints_the_plan_once(commands: Path) -> None:
    assert codes(commands)["dry"] == [0, 0]
    assert "missing" in (commands / "dry/2/out0").read_text()
    assert (commands / "dry/2/out1").read_text() == ""


# ------------------------------------------------------------------------------------------------- torchrun

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node")
TINY = (
    "rrm.preset=tiny",
    "shapes.preset=tiny",
    "rrm.dropout=0.0",
    "rrm.batch=3",
    "shapes.train=8",
    "shapes.val=4",
)
RRM = (
    *("run", "--method", "rrm", "--dataset", "shapes", "--stages", "seg", "--quiet"),
    *(word for option in TINY for word in ("-o", option)),
)


def same_scores(one: Path, two: Path) -> None:
    found = [{s.record.key: s.record for s in find_records(runs)} for runs in (one, two)]
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == 1
    for key, record in found[0].items():
        assert record.status == found[1][key].status == "ok"
        assert found[1][key].scores["iou"]["miou"] == pytest.approx(record.scores["iou"]["miou"], abs=0.2)
        assert found[1][key].provenance["processes"] == {"rrm": 2}


def test_torchrun_trains_rrm_to_the_scores_of_one_process(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    alone = CliRunner().invoke(main, [*RRM, "--device", "cpu", "--runs", str(tmp_path / "one")])
    torch.set_num_threads(threads)
    assert alone.exit_code == 0, alone.output
    done = python(*TORCHRUN, 2, "-m", "wsssbench", *RRM, "--device", "cpu", "--runs", tmp_path / "two")
    assert done.stdout.count("## shapes: seg on val") == 1
    same_scores(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_the_console_script_under_torchrun_stops_at_sigterm_and_goes_on(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("wsssbench")
    if not script.exists():
        pytest.skip("wsssbench is not installed as a command here")
    asked = [*RRM, "-o", "rrm.steps=39", "-o", "rrm.crop=96", "--device", "cpu", "--runs", str(tmp_path)]
    command = [sys.executable, *TORCHRUN, "2", "--no-python", str(script), *asked]
    process = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while time.monotonic() < end and not any(tmp_path.rglob("rrm-*/log.jsonl")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode  # torchrun's own
    assert said.count("the same command goes on from there") == 1
    (saved,) = tmp_path.rglob("joint.pt")
    assert 0 < torch.load(saved, weights_only=True)["step"] < 39
    python(*TORCHRUN, 2, "--no-python", script, *asked)
    assert {stored.record.status for stored in find_records(tmp_path)} == {"ok"}


# ------------------------------------------------------------------------------- one process as a group, NCCL


@pytest.fixture
def only(request: pytest.FixtureRequest) -> Iterator[Any]:
    """This process as the only one of a training on the device that is asked for."""
    from torch.distributed import HashStore

    from wsssbench.distributed.team import Team

    own = Team(Launch(0, 1, 0, 1), HashStore())
    with own.training(request.param):
        yield own


def check_team(own: Any, device: str) -> None:
    """Sums, copies, BatchNorm and its gradient on the device."""
    from wsssbench.distributed.shared_model import share_step, shared_model

    torch.manual_seed(0)
    images = torch.randn(4, 3, 5, 5, device=device)
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(device) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    losses = []
    for net, shared in zip(nets, (False, True), strict=True):
        weight = torch.linspace(-1, 2, 4, device=device)[:, None, None]
        if shared:
            with shared_model(net, own):
                losses.append((net(images) ** 3 * weight).mean())
                losses[-1].backward()
                assert share_step({"total": losses[-1]}, net, 1.0, own)["total"] == losses[-1].item()
        else:
            losses.append((net(images) ** 3 * weight).mean())
            losses[-1].backward()
    assert type(nets[1][1]) is nn.BatchNorm2d, "the layers are themselves again"
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    for (name, one), two in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(nets[1].state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert normaliser(torch.tensor([0.0, 6.0]), 2).tolist() == [1.0, 6.0]


@pytest.mark.parametrize("only", ["cpu"], indirect=True)
def test_batch_norm_over_processes_is_torchs_and_gone_after_the_training(only: Any) -> None:
    check_team(only, "cpu")


@pytest.mark.parametrize("only", ["cpu"], indirect=True)
def test_a_layer_whose_statistics_cannot_be_shared_is_refused(only: Any) -> None:
    from wsssbench.distributed.shared_model import shared_model

    net = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True))
    with pytest.raises(WsssError, match="InstanceNorm2d keeps statistics"), shared_model(net, only):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_one_process_with_nccl() -> None:
    code = (
        "import runpy; M = runpy.run_path({here!r}); from torch.distributed import HashStore; "
        "from wsssbench.distributed.team import Team; t = Team(M['Launch'](0, 1, 0, 1), HashStore())\n"
        "with t.training('cuda:0'): M['check_team'](t, 'cuda:0')"
    )
    python("-c", code.format(here=str(Path(__file__).resolve())))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_processes_with_nccl_train_rrm_to_the_scores_of_one(tmp_path: Path) -> None:
    common = (*RRM, "--precision", "fp32")
    python("-m", "wsssbench", *common, "--device", "cuda:0", "--runs", tmp_path / "one")
    python(*TORCHRUN, 2, "-m", "wsssbench", *common, "--device", "cuda", "--runs", tmp_path / "two")
    same_scores(tmp_path / "one", tmp_path / "two")
