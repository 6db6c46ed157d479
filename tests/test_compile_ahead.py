"""The lattice's loops are compiled beside a first long training on a CPU: once, in a process that nothing
waits for, and so that nothing is left to compile."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from wsssbench import train
from wsssbench.ops import compile_ahead as ahead

LEFT_TO_COMPILE = """
import numba.core.event as event
class Listener(event.Listener):
    def on_start(self, e): print("compiled", e.data["dispatcher"].py_func.__name__)
    def on_end(self, e): pass
event.register("numba:compile", Listener())
import torch
from wsssbench.ops.energy import dense_energy
from wsssbench_methods.rrm.reliable_rule import ReliableRule, reliable_labels_batch
from wsssbench.ops.mean_field import mean_field
from wsssbench.identity import CrfSet
torch.manual_seed(0)
image = torch.randint(0, 255, (2, 40, 48, 3), dtype=torch.uint8)
maps, tags = torch.rand(2, 3, 40, 48), torch.tensor([[True, False, True], [True, True, True]])
labels = reliable_labels_batch(image, maps, tags, ReliableRule(), scale=0.2)
reliable_labels_batch(image, maps, tags, ReliableRule())
mean_field(torch.rand(2, 4, 40, 48), image, CrfSet(3, 3, 83, 5, 4))
probs = torch.rand(2, 4, 40, 48, requires_grad=True)
dense_energy(probs.softmax(1), image.permute(0, 3, 1, 2).float(), labels == labels, labels).backward()
"""


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands that were started; the cache folder is empty."""
    commands = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ahead.subprocess, "Popen", lambda command, **options: commands.append(command))
    ahead.compile_ahead.cache_clear()
    yield commands
    ahead.compile_ahead.cache_clear()


def test_the_process_is_started_once_for_a_state_of_the_loops(started):
    ahead.compile_ahead()
    ahead.compile_ahead()
    assert started == [[sys.executable, "-m", "wsssbench.ops.compile_ahead"]]
    ahead.compile_ahead.cache_clear()  # another run
    ahead.compile_ahead()
    assert len(started) == 1
    ahead._mark().unlink()  # as after an update of the loops, whose mark has another name
    ahead.compile_ahead.cache_clear()
    ahead.compile_ahead()
    assert len(started) == 2


def test_a_cache_folder_that_cannot_be_written_starts_nothing_and_harms_nothing(started, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    ahead.compile_ahead()
    assert started == []


@pytest.mark.parametrize(
    ("seconds", "done", "steps", "device", "filter_backend", "starts"),
    [
        (4.0, 20, 260, "cpu", "lattice", True),
        (1.0, 5, 260, "cpu", "lattice", False),  # the rate is not known yet
        (4.0, 200, 260, "cpu", "lattice", False),  # nearly over
        (4.0, 20, 260, "cuda:0", "lattice", False),
        (4.0, 20, 260, "cpu", "exact", False),
    ],
)
def test_only_a_long_training_on_a_cpu_that_may_filter_starts_it(
    started, seconds, done, steps, device, filter_backend, starts
):
    ctx = SimpleNamespace(device=device, filter_backend=filter_backend)
    train._compile_beside(ctx, seconds, done, steps)
    assert bool(started) is starts


@pytest.mark.slow
def test_nothing_is_left_to_compile_for_mining_the_energy_and_the_crf(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "wsssbench.ops.compile_ahead"], env=environment, check=True)
    done = subprocess.run(
        [sys.executable, "-c", LEFT_TO_COMPILE], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
