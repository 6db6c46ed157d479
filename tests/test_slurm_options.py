"""The options of a job of Slurm: what is taken, refused, looked up, and handed on to submitit and sbatch."""

from __future__ import annotations

import re
from typing import Any

import pytest
from click.testing import CliRunner

from wsssbench.cli.completion import _options
from wsssbench.cli.main import main
from wsssbench.errors import WsssError
from wsssbench.running.executors.slurm_options import SlurmConfig, minutes, slurm_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (90, 90), ("90", 90), ("1:30", 2), ("8:00:00", 480), ("0:0:1", 1), ("2-0", 2880), ("1-12:30", 2190),
        ("1-0:0:30", 1441),
    ],
)  # fmt: skip
def test_a_limit_of_time_is_read_as_sbatch_reads_it(text: int | str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "x", "1:2:3:4", "-5", "1-"])
def test_what_is_no_limit_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time is"):
        minutes(text)


def test_options_become_those_of_submitit_and_sbatch() -> None:
    given = {"time": "2:00:00", "mem": "32G", "gpus_per_node": 1, "sbatch": "--reservation=mine,--overcommit"}
    told = slurm_config(given).parameters()
    assert (told["time"], told["gpus_per_node"], told["partition"]) == (120, 1, None)
    assert told["additional_parameters"] == {
        "requeue": True, "mem": "32G", "reservation": "mine", "overcommit": True
    }  # fmt: skip
    assert not {"mem", "sbatch", "poll_seconds", "max_num_timeout"} & told.keys()


def test_submitit_takes_every_option() -> None:
    submitit = pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    assert set(SlurmConfig().parameters()) <= submitit.SlurmExecutor._valid_parameters()


@pytest.mark.parametrize(
    "given", [{"mem": "much"}, {"sbatch": ["reservation"]}, {"poll_seconds": 0.0}, {"signal_delay_s": 0}]
)
def test_a_value_that_slurm_could_not_take_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(WsssError) as caught:
        slurm_config(given)
    assert caught.value.where in ("slurm", *(f"slurm.{name}" for name in given))
    assert re.search("`wsssbench show slurm`|allowed: at least", caught.value.hint)


def test_its_options_can_be_looked_up_and_completed() -> None:
    text = CliRunner().invoke(main, ["show", "slurm"]).output
    assert all(f"| {name} " in text for name in SlurmConfig.__dataclass_fields__)
    assert "slurm.partition=" in _options("slurm.p", {})
    assert _options("slu", {}) == ["slurm."]
