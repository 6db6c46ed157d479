"""The options of a job of Slurm: what is ours, what goes to sbatch, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wsssbench.cli.completion import _options
from wsssbench.cli.main import main
from wsssbench.errors import WsssError
from wsssbench.running.executors.slurm import sbatch_words
from wsssbench.running.executors.slurm_options import SlurmConfig, slurm_config


def test_what_is_not_ours_goes_to_sbatch_as_it_is() -> None:
    given = {
        "time": "8:00:00", "mem": "32G", "gpus_per_node": 1, "exclusive": True, "qos": None,
        "oversubscribe": False, "mail_type": ["END", "FAIL"], "nice": 0, "poll_seconds": 1,
        "sbatch": "--reservation=mine,--overcommit",
    }  # fmt: skip
    assert slurm_config(given).sbatch == (
        "--time=8:00:00", "--mem=32G", "--gpus-per-node=1", "--exclusive", "--mail-type=END,FAIL", "--nice=0",
        "--reservation=mine", "--overcommit",
    )  # fmt: skip
    assert slurm_config({}).sbatch == ("--time=60",)


def test_options_of_ours_become_the_command_of_a_job() -> None:
    given = {"setup": ["module load 'cuda'"], "srun_args": ["--mpi=none"], "dependency": "afterok:12"}
    words = sbatch_words(Path("/runs/my job"), slurm_config({**given, "max_num_timeout": 3}), ["7", "8"])
    assert "--dependency=afterany:7:8,afterok:12" in words
    setup, start = words[-1].splitlines()
    assert setup == "module load 'cuda'"
    assert start.startswith("srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} --mpi=none ")
    assert "executors.resumable '/runs/my job' 3 " in start
    assert start.endswith(" --lifeline ${SLURM_CPUS_PER_TASK:+--threads=$SLURM_CPUS_PER_TASK}")
    plain = sbatch_words(Path("/runs"), slurm_config({"use_srun": False, "signal_delay_s": 30}), [])
    assert "--signal=B:USR2@30" in plain
    assert plain[-1].startswith("exec ")


@pytest.mark.parametrize(
    "given",
    [
        {"sbatch": ["reservation"]}, {"poll_seconds": 0.0}, {"signal_delay_s": 0}, {"setup": 3},
        {"output": "x"}, {"job_name": "x"}, {"sbatch": ["--wrap=x"]}, {"Mem": "3G"}, {"a b": 1},
    ],
)  # fmt: skip
def test_what_a_job_could_not_have_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(WsssError) as caught:
        slurm_config(given)
    assert caught.value.where in ("slurm", *(f"slurm.{name}" for name in given))


def test_its_options_can_be_looked_up_and_completed() -> None:
    text = CliRunner().invoke(main, ["show", "slurm"]).output
    assert all(f"| {name} " in text for name in SlurmConfig.__dataclass_fields__)
    assert "goes to sbatch" in text
    assert "slurm.poll_seconds=" in _options("slurm.p", {})
    assert _options("slu", {}) == ["slurm."]
