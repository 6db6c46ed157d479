"""Trials in processes of their own: how they are cut out of a plan, started, watched, stopped and told of."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsssbench
from wsssbench.errors import BadData, WsssError
from wsssbench.planning.plan import make_plan
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.running.executors.jobs import Job, jobs_of
from wsssbench.running.executors.outcome import Ended, end_text, read_end, tail, write_end
from wsssbench.running.executors.request import Request, Switches, read_request, write_request
from wsssbench.running.executors.schedule import next_job, owners, seats, seats_text
from wsssbench.running.executors.worker import main as work
from wsssbench.running.renewal import Renewed

RUNS = runpy.run_path(str(Path(__file__).with_name("patient_run.py")))
in_an_empty_folder = RUNS["in_an_empty_folder"]
words = RUNS["words"]
run = RUNS["run"]
records = RUNS["records"]
PATIENT, SOME_TIME = RUNS["PATIENT"], RUNS["SOME_TIME"]
TINY = {"shapes": {"preset": "tiny", "train": 3, "val": 3}}


def starts(runs: Path) -> list[str]:
    """A line for each time that a training began."""
    return sorted((runs / "shapes" / "steps" / "starts.txt").read_text().splitlines())


def until(true: Callable[[], Any]) -> None:
    """Wait until `true()`."""
    end = time.monotonic() + SOME_TIME
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def planned(*methods: str, **more: Any) -> list[Job]:
    """The jobs of a plan, of which nothing is run."""
    settings = Settings(methods, ("shapes",), dataset_options=TINY, device="cpu", plugins=(PATIENT,), **more)
    plugins = Plugins()
    plugins.add_file(PATIENT)
    return jobs_of(make_plan(settings, plugins), settings, plugins)


# ------------------------------------------------------------------------------------------- in processes


def test_processes_find_what_one_process_finds_and_fit_a_shared_step_once() -> None:
    methods = ("--method", "patient > crf")
    here = run(*methods, "--runs", "here")
    apart = run(*methods, "--runs", "apart", "--jobs", "2")
    assert (here.exit_code, apart.exit_code) == (0, 0), apart.output
    assert records(Path("apart")) == records(Path("here"))
    assert len(records(Path("here"))) == 2
    assert starts(Path("apart")) == starts(Path("here"))
    assert len(starts(Path("here"))) == 1
    assert re.findall(r"mIoU \|[^~]*?\n\n", here.stdout) == re.findall(r"mIoU \|[^~]*?\n\n", apart.stdout)
    assert "2 trials at a time on the CPU" in apart.stderr
    assert "[shapes patient seed 0] started\n" in apart.stderr
    assert re.search(r"^\[shapes patient > crf seed 0\] seg on val: mIoU [\d.]+ ", apart.stderr, re.M)
    assert "fit: " not in apart.stderr, "counting belongs to the log"
    assert "seed 0: fit: 6/6" in next(Path("apart/.jobs").glob("shapes-patient-seed0-*/log.txt")).read_text()
    record = json.loads(next(Path("apart").glob("shapes/patient/seed0/*/record.json")).read_text())
    assert record["provenance"]["command"] == ["wsssbench", *sys.argv[1:]]
    again = run(*methods, "--runs", "apart", "--jobs", "2")
    assert (again.exit_code, "nothing to run" in again.stderr) == (0, True)
    assert len(starts(Path("apart"))) == 1


@pytest.mark.slow
def test_rerun_all_makes_a_shared_step_anew_once() -> None:
    methods = ("--method", "patient > crf", "--rerun", "all", "--jobs", "2")
    assert run().exit_code == 0
    assert run(*methods).exit_code == 0
    assert len(starts(Path("runs"))) == 2, "one time each"
    assert not list(Path("runs/.jobs").glob("renewed-*"))


def test_a_trial_that_fails_and_one_that_dies_are_told_with_the_ends_of_their_logs() -> None:
    Path("wsssbench.toml").write_text(
        '[methods.bad]\nsteps = ["patient"]\n[methods.bad.options.patient]\nfault = "fail"\n'
        '[methods.dead]\nsteps = ["patient"]\n[methods.dead.options.patient]\nfault = "die"\n'
    )
    result = run("--method", "dead", "--jobs", "2", "--quiet", method="bad")
    assert result.exit_code == 1
    found = {name.split("/")[1]: record["status"] for name, record in records(Path("runs")).items()}
    assert found == {"bad": "failed"}
    bad, dead = sorted(re.findall(r"^FAILED .*?(?=^FAILED|\Z)", result.stderr, re.M | re.S))
    assert "FAILED shapes bad seed 0: some of its cells failed" in bad
    assert "| FAILED bad seed 0 seg on val: ValueError: the fault that was asked for" in bad
    assert "FAILED shapes dead seed 0: its process ended without saying why (killed by SIGKILL)" in dead
    assert "| about to die" in dead
    log = re.search(r"log: (\S+)", dead)
    assert log is not None
    assert Path(log[1]).is_file()
    assert "next: the same command" in dead


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT,),
        pytest.param((signal.SIGTERM, signal.SIGINT), marks=pytest.mark.slow),
        pytest.param((signal.SIGKILL,), marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_leaves_no_worker_and_goes_on_from_the_checkpoint(
    signals: tuple[int, ...],
) -> None:
    command = [sys.executable, "-m", "wsssbench", *words("--jobs", "2", "-o", "patient.seconds=0.5")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    log = Path("runs/shapes/steps")
    until(lambda: list(log.glob("*/log.jsonl")))
    workers = children(process.pid)
    assert len(workers) == 1
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2 * (len(signals) - 1))
    said = process.communicate()[1]
    killed = signals == (signal.SIGKILL,)
    assert process.returncode == (-signal.SIGKILL if killed else 130)
    assert killed or "stopping 1 trials, each with a checkpoint" in said
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    before = len(next(log.glob("*/log.jsonl")).read_text().splitlines())
    assert 0 < before < 6
    assert bool(list(log.glob("*/ckpt/patient.pt"))) == (len(signals) == 1)
    assert run("-o", "patient.seconds=0").exit_code == 0
    assert run("--runs", "undisturbed").exit_code == 0
    assert records(Path("runs")) == records(Path("undisturbed"))


def children(pid: int) -> list[int]:
    """The processes that the process `pid` has started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_python_function_runs_trials_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    there = "wsssbench.running.executors.run_jobs.run_jobs"
    monkeypatch.setattr(there, lambda *given, **more: asked.append(given) or 0)
    rows = wsssbench.run("constant", "shapes", jobs=2, device="cpu", quiet=True, tensorboard=True)
    ((cells, settings, *_, switches),) = asked
    assert (len(rows), settings.jobs, switches) == (0, 2, Switches(tensorboard=True))
    assert {cell.trial.method for cell in cells} == {"constant"}


# --------------------------------------------------------------------------------------------- trials, order


def test_each_trial_gets_its_own_part_of_the_settings() -> None:
    jobs = planned("constant", "patient >  crf", seeds=(3, 4), jobs=2, metrics=("iou", "boundary_iou"))
    assert [job.title for job in jobs] == [
        f"shapes {method} seed {seed}" for seed in (3, 4) for method in ("constant", "patient > crf")
    ]
    own = jobs[1].settings
    assert (own.methods, own.datasets, own.seeds) == (("patient >  crf",), ("shapes",), (3,))
    assert (own.jobs, own.executor) == (1, "here")
    assert (jobs[0].settings.metrics, own.metrics) == (("iou", "boundary_iou"), ("iou", "boundary_iou"))
    assert len({job.folder for job in jobs}) == 4
    assert [job.folder for job in jobs] == [job.folder for job in planned(
        "constant", "patient > crf", seeds=(3, 4), metrics=("iou", "boundary_iou"))]  # fmt: skip


def test_a_trial_waits_for_a_step_that_another_one_fits_and_other_seeds_go_first(tmp_path: Path) -> None:
    first, second, other = planned("patient", "patient > crf", seeds=(0,)) + planned("patient", seeds=(1,))
    renewed = Renewed()
    assert next_job([first, second, other], [], renewed) is first
    assert next_job([second, other], [first], renewed) is other
    assert next_job([second], [first], renewed) is None
    step = first.cells[0].trial.steps[0]
    step.folder.mkdir(parents=True)
    (step.folder / "fitted.json").write_text(
        json.dumps(dict.fromkeys(("step", "seconds", "images", "phases"), 0))
    )
    assert next_job([second], [first], renewed) is second
    anew = dataclasses.replace(second, settings=dataclasses.replace(second.settings, rerun="all"))
    assert next_job([anew], [dataclasses.replace(anew, title="x")], Renewed(tmp_path / "notes")) is None


def test_on_a_cluster_a_trial_waits_for_the_one_that_fits_its_step() -> None:
    first, second, third = planned("patient", "patient > crf", "constant")
    assert owners([first, second, third], Renewed()) == {
        "shapes patient seed 0": (), "shapes patient > crf seed 0": (first,), "shapes constant seed 0": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "names", "visible", "threads"),
    [
        ((2, "cpu", 8, 0), ["", ""], [None, None], 4),
        ((3, "cpu", 2, 0), ["", "", ""], [None] * 3, 1),
        ((3, "cuda", 16, 2), ["GPU 0", "GPU 1", "GPU 0"], ["0", "1", "0"], 5),
        ((2, "cuda:1", 16, 2), ["cuda:1", "cuda:1"], [None, None], 8),
    ],
)
def test_trials_share_gpus_in_turn_and_the_cores_equally(
    asked: tuple[Any, ...], names: list[str], visible: list[str | None], threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = seats(*asked)
    assert [seat.name for seat in found] == names
    assert [seat.environment.get("CUDA_VISIBLE_DEVICES") for seat in found] == visible
    assert {seat.threads for seat in found} == {threads}
    assert ("share a GPU" in seats_text(found)) == (len(set(names)) < len(names) and bool(names[0]))


def test_gpus_keep_the_names_that_the_environment_has_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a")
    found = [seat.environment["CUDA_VISIBLE_DEVICES"] for seat in seats(3, "cuda", 4, 2)]
    assert found == ["5", "GPU-8a", "5"]


def test_what_was_made_anew_is_known_to_other_processes_and_only_of_the_same_run(tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "steps" / "cam-1a2b3c4d"
    Renewed(tmp_path / "notes").add(folder)
    assert folder in Renewed(tmp_path / "notes")
    assert folder not in Renewed(tmp_path / "others")
    assert folder not in Renewed()


# ------------------------------------------------------------------------------------------- files and words


def test_a_job_file_holds_the_whole_settings(tmp_path: Path) -> None:
    settings = Settings(
        ("mine",), ("shapes",), (2,), ("seed", "my"), runs=Path("out"), limit=3, plugins=(Path("my.py"),),
        rerun="all", options={"cam": {"steps": 3, "scale": 0.1, "name": "x", "list": [1, 2], "no": False}},
        dataset_options=TINY, recipes={"mine": ("cam", "crf")}, custom_stages={"my": {"judged": "seg"}},
        recipe_options={"mine": {"crf": {"iterations": 5}}}, source=Path("wsssbench.toml"),
    )  # fmt: skip
    request = Request(settings, ("a", "b"), Path("/x"), ("run", "--x"), Switches(True), Path("/notes"))
    write_request(tmp_path, request)
    assert read_request(tmp_path) == request


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(version=0), lambda d: d.pop("settings"), lambda d: d.update(settings=3),
        lambda d: d["settings"].update(seeds="x"), lambda d: d["settings"].update(new=1),
    ],
)  # fmt: skip
def test_a_job_file_of_another_version_or_damaged_is_refused_by_name(
    tmp_path: Path, damage: Callable[[Any], Any]
) -> None:
    write_request(tmp_path, Request(Settings(), (), Path("/")))
    content = json.loads((tmp_path / "job.json").read_text())
    damage(content)
    (tmp_path / "job.json").write_text(json.dumps(content))
    with pytest.raises(WsssError):
        read_request(tmp_path)
    (tmp_path / "job.json").write_text("[")
    with pytest.raises(BadData, match="cannot be read"):
        read_request(tmp_path)


def test_a_worker_that_plans_other_cells_says_so_and_notes_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = planned("patient")
    write_request(job.folder, Request(job.settings, ("another",), Path.cwd()))
    monkeypatch.setattr(sys, "argv", ["worker", str(job.folder)])
    assert (work(), read_end(job.folder)) == (2, 2)
    assert "plans other cells than the one that the run was started on" in capsys.readouterr().err
    assert not records(Path("runs"))


def test_metrics_that_a_trial_cannot_judge_are_not_asked_of_it() -> None:
    maps, none = planned("patient", "constant", metrics=("iou", "pxap"), stages=("seed", "seg"))
    assert "pxap" in maps.settings.metrics
    assert none.settings.metrics == ("iou",)


def test_the_end_of_a_log_is_told_short_and_printable(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(
        b"first\n" + b"\n".join(b"line %d" % n for n in range(40)) + b"\n\n\x1b[31mred\xff" + b"x" * 999
    )
    lines = tail(log)
    assert len(lines) == 12
    assert lines[0] == "line 29"
    assert lines[-1].startswith("\\x1b[31mred")
    assert len(lines[-1]) == 200
    text = end_text("shapes cam seed 0", Ended(None, "killed by SIGKILL", log))
    assert text.startswith(
        "FAILED shapes cam seed 0: its process ended without saying why (killed by SIGKILL)\n  | "
    )
    assert text.endswith(f"\n  log: {log}\n  next: the same command runs it again")
    assert tail(tmp_path / "absent") == []


def test_an_end_is_noted_whole_or_not_at_all(tmp_path: Path) -> None:
    assert read_end(tmp_path) is None
    write_end(tmp_path, 1)
    assert read_end(tmp_path) == 1
    (tmp_path / "ended.json").write_text("{")
    assert read_end(tmp_path) is None
