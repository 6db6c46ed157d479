"""`run --tensorboard`: what it writes, that it changes nothing else, and what is said where it cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wsssbench.cli.main import main
from wsssbench.errors import WsssError
from wsssbench.running.screen.board import Board, TrainingBoard, open_board

ASK = (
    "run", "--method", "cam", "--dataset", "shapes", "-o", "cam.preset=tiny", "-o", "shapes.preset=tiny",
    "-o", "shapes.train=8", "-o", "shapes.val=6", "--stages", "seg", "--device", "cpu", "-q", "--json",
)  # fmt: skip


class Writer:
    """In the place of SummaryWriter: keeps what it is told."""

    made: list[Writer]

    def __init__(self, folder: str, purge_step: int, flush_secs: int) -> None:
        self.folder, self.first = Path(folder), purge_step
        self.told: list[tuple[str, int]] = []
        type(self).made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, step))

    def close(self) -> None:
        self.told.append(("closed", 0))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    Writer.made = []
    return Board(tmp_path / "tensorboard", Writer, lambda text: None)


def test_numbers_stand_at_the_step_that_is_done_and_a_resumed_training_voids_what_was_after_it(
    board: Board,
) -> None:
    with board:
        training = TrainingBoard(board, "shapes/cam/seed0")
        training.progress("classifier-12345678", 61, 8, {"cls": 0.5}, 0.1)  # goes on after a checkpoint at 60
        training.progress("classifier-12345678", 62, 8, {"cls": 0.4}, None)
    (writer,) = Writer.made
    assert writer.folder == board.root / "shapes/cam/seed0/classifier-12345678"
    assert writer.first == 61
    assert writer.told == [("loss/cls", 61), ("learning_rate", 61), ("loss/cls", 62), ("closed", 0)]


def test_a_part_that_counts_from_the_start_again_has_a_folder_of_its_own(board: Board) -> None:
    training = TrainingBoard(board, "shapes/rrm/seed0")
    for done in (1, 2, 1, 2, 1):
        training.progress("rrm-1", done, 0, {"ce": 1.0}, None)
    assert [writer.folder.name for writer in Writer.made] == ["rrm-1", "rrm-1-part2", "rrm-1-part3"]


def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError("disk is full")

    board = Board(tmp_path, refuse, said.append)
    with board:
        for step in range(3):
            board.numbers("a", step, {"loss": 1.0}, 0)
    assert len(said) == 1
    assert "disk is full" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_where_the_package_is_missing_the_run_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = CliRunner().invoke(main, [*ASK, "--tensorboard"])
    assert result.exit_code == 2
    assert "TensorBoard is not there" in result.output
    assert "pip install 'wsssbench[tensorboard]'" in result.output
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WsssError, match="TensorBoard is not there"):
        open_board(tmp_path, print)


# ------------------------------------------------------------------------------------------- the real package


@pytest.fixture
def accumulator() -> Any:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def loaded(accumulator: Any, folder: Path) -> Any:
    found = accumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_writes_curves_and_masks_and_has_the_same_keys_and_scores(
    accumulator: Any, tmp_path: Path
) -> None:
    plain, shown = tmp_path / "plain", tmp_path / "shown"
    rows = [json.loads(call(*ASK, "--runs", plain).stdout)]
    rows.append(json.loads(call(*ASK, "--runs", shown, "--tensorboard").stdout))
    records = [next(root.glob("shapes/cam/seed0/*/record.json")) for root in (plain, shown)]
    assert records[0].parent.name == records[1].parent.name  # the key
    scores = [json.loads(record.read_text())["scores"] for record in records]
    assert scores[0] == scores[1]
    assert not (plain / "tensorboard").exists()

    place = shown / "tensorboard/shapes/cam/seed0"
    (log,) = shown.glob("shapes/steps/*/log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    training = loaded(accumulator, place / log.parent.name)
    curve = training.Scalars("loss/cls")
    assert [point.step for point in curve] == [line["done"] for line in lines]
    np.testing.assert_allclose([p.value for p in curve], [line["losses"]["cls"] for line in lines], rtol=1e-6)
    rates = [point.value for point in training.Scalars("learning_rate")]
    np.testing.assert_allclose(rates, [line["rate"] for line in lines], rtol=1e-6)
    assert rates == sorted(rates, reverse=True)

    cell = loaded(accumulator, place / records[1].parent.name)
    assert cell.Tags()["images"] == [f"masks/val_0000{n}" for n in range(4)]
    (image,) = cell.Images("masks/val_00000")
    assert (image.width, image.height) == (3 * 48 + 2 * 4, 48)
    assert cell.Scalars("iou/miou")[0].value == pytest.approx(scores[1]["iou"]["miou"], rel=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_killed_session_wrote_after_its_checkpoint_is_void(accumulator: Any, tmp_path: Path) -> None:
    for steps in (range(1, 9), range(5, 7)):  # killed at 8, checkpoint at 4
        with open_board(tmp_path, print) as board:
            training = TrainingBoard(board, "shapes/cam/seed0")
            for done in steps:
                training.progress("cam-12345678", done, 1, {"cls": float(steps.start)}, None)
    found = loaded(accumulator, board.root / "shapes/cam/seed0/cam-12345678").Scalars("loss/cls")
    assert [(p.step, p.value) for p in found] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 5), (6, 5)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_with_nothing_to_do_says_that_nothing_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    ask = ("run", "--method", "constant", *ASK[3:5], *ASK[7:-2])
    first, second = (call(*ask, "--runs", tmp_path / "runs", "--tensorboard") for _ in range(2))
    assert f"tensorboard --logdir {tmp_path / 'runs' / 'tensorboard'}" in first.stderr
    assert "nothing had to be run" in second.stderr
