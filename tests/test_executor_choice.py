"""What may be asked of executors: flags, settings, help, and the plan for machines that are elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.errors import WsssError
from wsssbench.machine.hardware import Hardware
from wsssbench.planning.settings import Settings
from wsssbench.running.plan_run import executor_of, prepared
from wsssbench.running.screen.progress import Progress


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wsssbench.toml is found by chance."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--executor", "slrum"], ["Invalid value for '--executor'", "'here', 'local', 'slurm'"]),
        (["--jobs", "0"], ["0 is out of range [--jobs]", "at least 1"]),
        (["--detach"], ["only jobs of a cluster can be left alone", "--executor slurm"]),
        (["-o", "slurm.Partition=gpu"], ["'--Partition=gpu' is not an option of sbatch", "slurm.partition"]),
        (["-o", "slurm.output=log.txt"], ["wsssbench itself sets --output"]),
        (["-o", "slurm.poll_seconds=often"], ["expected float"]),
        (["-o", "slrm.time=3"], ["unknown step or data set 'slrm'", "did you mean slurm"]),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(flags: list[str], said: list[str]) -> None:
    result = CliRunner().invoke(main, ["run", "--method", "constant", "--dataset", "shapes", *flags])
    assert result.exit_code == 2
    assert all(text in result.stderr for text in said), result.stderr
    assert not Path("runs").exists()


def test_several_trials_at_a_time_are_never_in_this_process() -> None:
    assert executor_of(Settings()) == "here"
    assert executor_of(Settings(jobs=2)) == "local"
    assert executor_of(Settings(jobs=2, executor="slurm")) == "slurm"


@pytest.mark.parametrize(
    ("asked", "options", "planned"),
    [
        (("auto", "auto"), {}, ("cpu", "fp32")),
        (("auto", "auto"), {"gpus_per_node": 1}, ("cuda", "bf16")),
        (("auto", "auto"), {"gres": "gpu:a100:1"}, ("cuda", "bf16")),
        (("auto", "fp32"), {"sbatch": ["--gpus=1"]}, ("cuda", "fp32")),
        (("cuda", "auto"), {}, ("cuda", "bf16")),
        (("cpu", "auto"), {"gpus_per_node": 1}, ("cpu", "fp32")),
    ],
)
def test_on_a_cluster_the_gpu_of_the_jobs_is_planned_not_that_of_this_machine(
    asked: tuple[Any, Any], options: dict[str, Any], planned: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("wsssbench.running.executors.slurm.check_slurm", lambda: None)
    device, precision = asked
    settings = Settings(
        executor="slurm", device=device, precision=precision, executor_options={"slurm": options}
    )
    named, hardware = prepared(settings, Progress())
    assert hardware == Hardware(*planned, "lattice")
    assert (named.device, named.precision) == planned
    assert ("jobs use the CPU" in capsys.readouterr().err) == (device == "auto" and planned[0] == "cpu")


def test_the_settings_file_names_executor_jobs_and_their_options() -> None:
    Path("wsssbench.toml").write_text('[run]\njobs = 2\nexecutor = "slurm"\n[executors.slrm]\ntime = 3\n')
    result = CliRunner().invoke(main, ["run", "--method", "constant", "--dataset", "shapes"])
    assert (result.exit_code, "unknown executor 'slrm'" in result.stderr) == (2, True)


def test_help_knows_the_executors() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).output
    assert all(word in text for word in ("--jobs", "--executor", "--detach", "-o slurm.partition=gpu"))


def test_without_slurm_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsssbench.running.executors.slurm import check_slurm

    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(WsssError, match=r"Slurm's commands are not here \(sbatch, squeue, srun\)"):
        check_slurm()


def test_a_bad_option_of_an_executor_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(WsssError, match="is not an option of sbatch"):
        prepared(Settings(executor_options={"slurm": {"t me": 3}}), Progress(quiet=True))
