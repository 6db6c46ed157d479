"""Jobs of a cluster: what is submitted, found again, waited for and told; and, marked `slurm`, a real Slurm
of one node in which jobs are preempted, fail, die and are cancelled."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wsssbench.running.executors.outcome import write_end
from wsssbench.running.executors.resumable import Resumable
from wsssbench.running.executors.slurm_queue import QueueSilent, is_going_on, last_state, queue_states

RUNS = runpy.run_path(str(Path(__file__).with_name("patient_run.py")))
in_an_empty_folder = RUNS["in_an_empty_folder"]
words = RUNS["words"]
run = RUNS["run"]
records = RUNS["records"]
PATIENT, SOME_TIME = RUNS["PATIENT"], RUNS["SOME_TIME"]
NODE = Path(__file__).with_name("slurm_node.sh")
SLURM = ["--executor", "slurm", "-o", "slurm.partition=gpu", "-o", "slurm.poll_seconds=0.2"]


def starts(runs: str = "runs") -> int:
    """How often a training began."""
    file = Path(runs, "shapes", "steps", "starts.txt")
    return len(file.read_text().splitlines()) if file.exists() else 0


def until(true: Callable[[], Any]) -> None:
    """Wait until `true()`."""
    end = time.monotonic() + SOME_TIME
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def job_ids(runs: str = "runs") -> list[str]:
    return sorted((json.loads(p.read_text())["id"] for p in Path(runs).glob(".jobs/*/slurm.json")), key=int)


# ------------------------------------------------------------------------------------- a Slurm that is played

PLAYED = {
    "sbatch": 'printf "%s\\n" "$@" > {folder}/words.$(cat {folder}/next)\n[ -e {folder}/refuse ] && '
    "{{ echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1; }}\n"
    "n=$(cat {folder}/next); echo $((n + 1)) > {folder}/next\n"
    'echo "$n|PENDING|(Priority)" >> {folder}/queue\n'
    'echo "$n"',
    "squeue": "[ -e {folder}/silent ] && {{ echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1; }}\n"
    "cat {folder}/queue",
    "srun": "exit 1",
    "scontrol": 'echo "$@"',
    "sacct": "echo OUT_OF_MEMORY",
}


class Played:
    """Slurm's commands as scripts: what squeue says is written by the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "next").write_text("7\n")
        (folder / "queue").touch()
        for name, text in PLAYED.items():
            script = folder / name
            script.write_text(f"#!/bin/bash\n{text.format(folder=folder)}\n")
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def says(self, **states: str) -> None:
        """Let squeue know these jobs alone: job7="RUNNING"."""
        lines = (f"{name.removeprefix('job')}|{state}|vm" for name, state in states.items())
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in lines))

    def words(self, number: int) -> list[str]:
        """What sbatch was given for the job of that number."""
        return (self.folder / f"words.{number}").read_text().splitlines()


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.setattr("wsssbench.running.executors.slurm.SETTLE_SECONDS", 0.0)
    return Played(tmp_path / "bin", monkeypatch)


def test_a_trial_is_one_job_that_is_found_again_and_waits_for_the_one_whose_step_it_shares(
    played: Played,
) -> None:
    asked = ("--method", "patient > crf", *SLURM, "-o", "slurm.time=2:00:00", "-o", "slurm.cpus_per_task=3")
    first = run(*asked, "--detach")
    assert first.exit_code == 0
    assert "[shapes patient seed 0] submitted as job 7\n" in first.stderr
    assert "the same command waits for them and collects; scancel 7 8 ends them" in first.stderr
    lines = played.words(7)
    assert {"--partition=gpu", "--time=2:00:00", "--requeue", "--cpus-per-task=3", "--signal=USR2@90"} <= set(
        lines
    )
    assert any(line.startswith("--job-name=wsssbench-shapes-patient-seed0-") for line in lines)
    assert lines[-2] == "--wrap"
    assert lines[-1].startswith("srun ")
    assert f"{sys.executable} -u -m wsssbench.running.executors.resumable" in lines[-1]
    assert not any(line.startswith("--dependency") for line in lines)
    assert "--dependency=afterany:7" in played.words(8)
    again = run(*asked, "--detach", "--quiet")
    assert (again.exit_code, "scancel 7 8" in again.stderr) == (0, True)
    assert (played.folder / "next").read_text() == "9\n", "nothing is submitted twice"
    played.says(job7="CANCELLED", job8="PENDING")
    assert "submitted as job 9" in run(*asked, "--detach").stderr, "one that has ended is submitted again"


def test_jobs_that_end_without_a_word_are_told_with_their_state_and_log(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*SLURM, "--detach", "--seeds", "0,1")
    log = next(Path("runs").glob(".jobs/shapes-patient-seed1-*")) / "8.log"
    log.write_text("slurmstepd: error: the node is on fire\n")
    played.says(job7="CANCELLED by 0")
    result = run(*SLURM[:-2], "-o", "slurm.poll_seconds=0.1", "--seeds", "0,1", "--detach")
    assert "submitted as job 9" in result.stderr
    assert "submitted as job 10" in result.stderr
    log.rename(log.with_name("10.log"))
    monkeypatch.setattr(
        "wsssbench.running.executors.slurm.sleep", lambda seconds: played.says(job9="CANCELLED")
    )
    result = run(*SLURM, "--seeds", "0,1")
    assert result.exit_code == 1
    assert "seed 0: its process ended without saying why (job 9: CANCELLED)" in result.stderr
    assert "seed 1: its process ended without saying why (job 10: OUT_OF_MEMORY)" in result.stderr
    assert "  | slurmstepd: error: the node is on fire\n  log: " in result.stderr


def test_changes_are_told_once_and_a_silent_queue_is_asked_again(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(is_silent: bool) -> None:
        (played.folder / "silent").touch() if is_silent else (played.folder / "silent").unlink()

    (states := iter([
        lambda: played.says(job7="RUNNING"), lambda: None, lambda: silent(True), lambda: None,
        lambda: silent(False), lambda: played.says(job7="PENDING"), lambda: played.says(job7="RUNNING"),
        lambda: write_end(next(Path("runs").glob(".jobs/shapes-*")), 0),
    ]))  # fmt: skip
    monkeypatch.setattr("wsssbench.running.executors.slurm.sleep", lambda seconds: next(states)())
    result = run(*SLURM)
    told = [line for line in result.stderr.splitlines() if "job 7" in line or "answer" in line]
    assert told == [
        "[shapes patient seed 0] submitted as job 7",
        "[shapes patient seed 0] job 7 runs on vm",
        "squeue does not answer (slurm_load_jobs error: Unable to contact); asking again",
        "[shapes patient seed 0] job 7 left its node and waits to go on vm",
        "[shapes patient seed 0] job 7 runs on vm",
    ]


def test_ctrl_c_leaves_the_jobs_and_says_how_to_end_them(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wsssbench.running.executors.slurm.sleep", lambda seconds: os.kill(os.getpid(), signal.SIGINT)
    )
    result = run(*SLURM, "--quiet")
    assert result.exit_code == 130
    assert (
        "the jobs go on; the same command waits for them and collects; scancel 7 ends them" in result.stderr
    )


def test_what_sbatch_refuses_is_told_in_its_words(played: Played) -> None:
    (played.folder / "refuse").touch()
    result = run(*SLURM)
    assert result.exit_code == 2
    assert "Slurm refuses this job (invalid partition specified: gpu)" in result.stderr
    assert "sinfo" in result.stderr


def test_a_queue_that_does_not_answer_at_the_start_is_an_error(played: Played) -> None:
    (played.folder / "silent").touch()
    result = run(*SLURM)
    assert (result.exit_code, "squeue does not answer" in result.stderr) == (2, True)


def test_states_are_read_whatever_stands_in_the_reason(played: Played) -> None:
    (played.folder / "queue").write_text("12|PENDING|(Depend|ency)\n13|RUNNING|n[1-2]\nbroken\n")
    assert queue_states() == {"12": ("PENDING", "(Depend|ency)"), "13": ("RUNNING", "n[1-2]")}
    assert (is_going_on("REQUEUED"), is_going_on("FAILED"), is_going_on("")) == (True, False, False)
    assert last_state("12") == "OUT_OF_MEMORY"
    (played.folder / "sacct").write_text("#!/bin/bash\nexit 1\n")
    assert last_state("12") == ""
    (played.folder / "squeue").unlink()
    if shutil.which("squeue") is None:
        with pytest.raises(QueueSilent):
            queue_states()


# ------------------------------------------------------------------------------------------ leaving a node

WORKER = """
import sys, time
print("at work", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    print("saved", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "state", "ending"),
    [
        (signal.SIGTERM, "RUNNING", ["saved", "requeue 7"]),  # preempted, and left to requeue itself
        (signal.SIGTERM, "COMPLETING", ["saved"]),  # cancelled, or requeued by Slurm
        (signal.SIGUSR2, "RUNNING", ["saved", "requeue 7"]),  # soon out of time
    ],
)
def test_a_job_that_leaves_its_node_saves_once_and_goes_back_to_the_queue(
    number: int, state: str, ending: list[str], played: Played, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    played.says(job7=state)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    process = resumed(tmp_path, 2)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    os.killpg(process.pid, number)  # as Slurm does: every process of the job
    os.killpg(process.pid, number)
    lines = process.communicate()[0].splitlines()
    assert lines == [f"{signal.Signals(number).name}: stopping the trial", *ending]
    assert process.returncode == 130


def resumed(folder: Path, timeouts: int) -> subprocess.Popen[str]:
    """A worker that sleeps, as a job has it run."""
    words = ["-m", "wsssbench.running.executors.resumable", folder, timeouts, sys.executable, "-c", WORKER]
    return subprocess.Popen(
        [sys.executable, "-u", *map(str, words)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_job_that_has_run_into_its_limit_too_often_ends(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for requeued in (True, False):
        process = resumed(tmp_path, 1)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        os.killpg(process.pid, signal.SIGUSR2)
        said = process.communicate()[0]
        assert ("requeue 7" in said, "more than 1 times" in said) == (requeued, not requeued)


def test_a_job_whose_process_is_killed_fails_and_one_that_ends_has_its_exit_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGUSR2)]
    try:
        for text, code in (("", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 1)):
            assert Resumable(Path(), 1, [sys.executable, "-S", "-c", text]).run() == code
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    assert capfd.readouterr().out == "the trial's process was killed by SIGKILL\n"


# -------------------------------------------------------------------------------------------- a real Slurm


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node, for these tests alone."""
    folder = tmp_path_factory.mktemp("slurm")
    done = subprocess.run([NODE, "start", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no Slurm can be started here: {done.stderr.strip()}")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield
    finally:
        del os.environ["SLURM_CONF"]
        subprocess.run([NODE, "stop", folder], check=True)


def steps_done() -> int:
    """Trainings that have taken a step."""
    return len(list(Path("runs/shapes/steps").glob("*/log.jsonl")))


@pytest.mark.slurm
def test_preempted_jobs_go_on_and_find_what_an_undisturbed_run_finds(node: None) -> None:
    asked = (*SLURM, "--seeds", "0,1", "-o", "patient.seconds=1")
    assert run(*asked, "--detach").exit_code == 0
    until(lambda: steps_done() == 2)
    first, second = job_ids()
    subprocess.run(["scontrol", "requeue", first], check=True)
    subprocess.run(["scancel", "--signal=TERM", second], check=True)
    result = run(*asked)
    assert result.exit_code == 0, result.stderr
    assert f"is job {first} already" in result.stderr
    assert f"is job {second} already" in result.stderr
    assert starts() == 4, "each began twice"
    assert job_ids() == [first, second]
    assert run("--seeds", "0,1", "--runs", "undisturbed").exit_code == 0
    assert records("runs") == records("undisturbed")
    assert len(records("runs")) == 2
    assert "nothing to run" in run(*asked).stderr


@pytest.mark.slurm
def test_jobs_that_fail_die_or_are_cancelled_are_told_with_their_logs(
    node: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsssbench.running.executors.slurm.SETTLE_SECONDS", 2.0)
    Path("wsssbench.toml").write_text(
        "".join(
            f'[methods.{name}]\nsteps = ["patient"]\n[methods.{name}.options.patient]\n{option}\n'
            for name, option in (
                ("bad", 'fault = "fail"'),
                ("dead", 'fault = "die"'),
                ("long", "steps = 300"),
            )
        )
    )
    asked = ("--method", "dead", "--method", "long", *SLURM, "-o", "patient.seconds=0.5")
    assert run(*asked, "--detach", method="bad").exit_code == 0
    until(lambda: list(Path("runs").glob("shapes/steps/*/log.jsonl")) and starts() == 3)
    subprocess.run(["scancel", job_ids()[-1]], check=True)
    result = run(*asked, "--rerun", "stale", method="bad")
    assert result.exit_code == 1
    told = result.stderr
    assert "FAILED [shapes bad seed 0] seg on val: ValueError: the fault that was asked for" in told
    assert "| FAILED bad seed 0 seg on val: ValueError: the fault that was asked for" in told
    assert "FAILED shapes dead seed 0: its process ended without saying why" in told
    assert "the trial's process was killed by SIGKILL" in told
    assert "FAILED shapes long seed 0: its process ended without saying why" in told
    assert {name.split("/")[1]: r["status"] for name, r in records("runs").items()} == {"bad": "failed"}


@pytest.mark.slurm
def test_what_the_real_sbatch_refuses_is_told_in_its_words(node: None) -> None:
    result = run("--executor", "slurm", "-o", "slurm.partition=absent")
    assert result.exit_code == 2
    assert "Slurm refuses this job" in result.stderr
    assert "invalid partition" in result.stderr
    result = run(*SLURM, "-o", "slurm.partion=gpu")
    assert result.exit_code == 2
    assert "unrecognized option '--partion=gpu'" in result.stderr
