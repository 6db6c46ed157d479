"""Checkpoints that are damaged or interrupted: the one before is used, and no damage goes unnoticed."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wsssbench.errors import BadData
from wsssbench.train import load_checkpoint, save_checkpoint

FAULTY = runpy.run_path(str(Path(__file__).with_name("faulty_run.py")))
cut = FAULTY["cut"]
flip = FAULTY["flip"]


def saved(path: Path, step: int, *, more_to_come: bool = True) -> nn.Linear:
    torch.manual_seed(step)
    net = nn.Linear(60, 60)
    save_checkpoint(path, net, None, step, more_to_come=more_to_come)
    return net


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(tmp_path: Path) -> None:
    path, draw = tmp_path / "net.pt", random.Random(17)
    saved(path, 1)
    whole = path.read_bytes()
    for at in [draw.randrange(len(whole)) for _ in range(100)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        try:
            load_checkpoint(path, net := nn.Linear(60, 60), None)
        except BadData:
            continue
        path.write_bytes(whole)
        load_checkpoint(path, other := nn.Linear(60, 60), None)
        same = all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
        assert same, f"seed 17, byte {at}"  # a bit of the zip's own padding may be anything


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before_it(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pt"
    before, _ = saved(path, 5), saved(path, 6)
    damage(path)
    net = nn.Linear(60, 60)
    assert load_checkpoint(path, net, None) == 5
    assert torch.equal(net.weight, before.weight)
    aside = {} if damage is Path.unlink else {"net.pt.damaged"}
    assert {file.name for file in tmp_path.iterdir()} == {"net.pt", *aside}
    said = capsys.readouterr().err
    assert ("going on from the one before it, of step 5" in said) == bool(aside)


def test_where_both_checkpoints_are_damaged_the_last_is_named_and_both_stay(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    saved(path, 5), saved(path, 6)
    for file in list(tmp_path.iterdir()):
        cut(file)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(BadData, match="cannot read this checkpoint"):
        load_checkpoint(path, nn.Linear(60, 60), None)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_a_finished_training_keeps_one_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    saved(path, 5), saved(path, 6)
    assert len(list(tmp_path.iterdir())) == 2
    saved(path, 7, more_to_come=False)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


def test_an_interruption_while_a_checkpoint_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pt"
    saved(path, 5)
    whole = path.read_bytes()

    def stopped(state: Any, target: Path) -> None:
        target.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        saved(path, 6)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"net.pt": whole}
