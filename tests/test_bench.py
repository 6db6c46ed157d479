"""The bench: what is measured and what is not, its records, its tables, and what it leaves behind: nothing.

Time is made up: steps spend it on `TOOLS`, as a processor does (at once) or as a GPU does (when waited for).
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from wsssbench.cli.main import main
from wsssbench.commands.bench import bench_trials
from wsssbench.errors import TrainingFailed, WsssError
from wsssbench.machine.hardware import Hardware
from wsssbench.plugins.table import Entry, Plugins
from wsssbench.running.context import RunContext
from wsssbench.testing.tiny import TinyDataset
from wsssbench.throughput.clock import Clock
from wsssbench.throughput.device import Instruments
from wsssbench.throughput.measure import bench_trial
from wsssbench.throughput.record import (
    BenchLine,
    BenchProtocol,
    BenchRecord,
    find_benches,
)
from wsssbench.train import Schedule, make_optimizer, poly, train
from wsssbench.training.crops import Batch, CropBatches, CropRule
from wsssbench.types import Maps, Outputs, StepCard, View

_LOADER = Plugins()
_LOADER.add_file(Path(__file__).with_name("fake_run.py"))
fake: Any = sys.modules[_LOADER.load("steps", "first").__module__]

CPU = Hardware("cpu", "fp32", "lattice")
PROTOCOL = BenchProtocol(warmup=2, repeats=3)
STEPS = 6


class MadeUpTime(Instruments):
    """Instruments whose clock stands still but for `spend`; a GPU spends when it is waited for."""

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self.time, self.pending, self.waits, self.memory = 100.0, 0.0, 0, 7

    def spend(self, seconds: float) -> None:
        if self.asynchronous:
            self.pending += seconds
        else:
            self.time += seconds

    def now(self) -> float:
        return self.time

    def synchronise(self) -> None:
        self.waits += 1
        self.time, self.pending = self.time + self.pending, 0.0

    def reset_peak(self) -> None:
        self.memory = 0

    def peak_bytes(self) -> int:
        return self.memory


TOOLS = MadeUpTime()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder and a folder for temporary files of the test's own; the latter ends empty."""
    temporary = tmp_path / "temporary"
    (tmp_path / "work").mkdir()
    temporary.mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    # torch makes this folder when the first optimizer of a process is made, among temporary files by default
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    fake.EVENTS.clear()
    yield tmp_path
    assert list(temporary.iterdir()) == []


# ---------------------------------------------------------------------------------------------- step limit


def context(workdir: Path, step_limit: int | None) -> RunContext:
    workdir.mkdir(parents=True, exist_ok=True)
    card = TinyDataset.card
    return RunContext("cpu", "fp32", "lattice", card, workdir, None, 3, "toy", step_limit=step_limit)


def limited(workdir: Path, step_limit: int | None, check: Any = None) -> tuple[nn.Module, list[float]]:
    """A network after a training of STEPS steps under a limit, and the rate of each step taken."""
    torch.manual_seed(5)
    net, rates = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(0.5)), []
    optimizer = make_optimizer(net, [], Schedule(STEPS, 1.0, optimizer="sgd"))

    def losses(batch: Batch) -> dict[str, Tensor]:
        rates.append(optimizer.param_groups[0]["lr"])
        loss = net(batch.images.float() / 255).mean((2, 3)).square().mean()
        return {"total": loss, "cls": loss}

    batches = CropBatches(View(TinyDataset(), "train", ("tags",)), CropRule(12), 2, 11)
    plan = Schedule(STEPS, 1.0, optimizer="sgd")
    train(context(workdir, step_limit), "net", net, optimizer, batches, losses, plan, check)
    return net, rates


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_a_step_limit_ends_a_training_at_the_rates_of_the_whole_and_it_goes_on_from_there(
    tmp_path: Path,
) -> None:
    whole, rates = limited(tmp_path / "whole", None)
    assert rates == [poly(step, STEPS) for step in range(STEPS)]
    early, first = limited(tmp_path / "parts", 4)
    assert first == rates[:4]
    assert not torch.equal(weights(early), weights(whole))
    resumed, rest = limited(tmp_path / "parts", None)
    assert rest == rates[4:]
    assert torch.equal(weights(resumed), weights(whole))


def test_a_step_limit_above_the_schedule_changes_nothing_and_below_the_checkpoint_undoes_nothing(
    tmp_path: Path,
) -> None:
    whole, rates = limited(tmp_path, STEPS + 5)
    assert len(rates) == STEPS
    again, more = limited(tmp_path, 2)
    assert more == []
    assert torch.equal(weights(again), weights(whole))
    assert torch.load(tmp_path / "ckpt/net.pt", weights_only=True)["step"] == STEPS


def test_a_training_that_was_ended_early_is_not_judged(tmp_path: Path) -> None:
    def dead(losses: Any, step: int) -> None:
        raise TrainingFailed("the classifier died")

    with pytest.raises(TrainingFailed):
        limited(tmp_path / "whole", None, dead)
    limited(tmp_path / "measured", STEPS, dead)


# --------------------------------------------------------------------------------------------------- clock


def laps(tools: MadeUpTime, seconds: list[float], warmup: int = 2, repeats: int = 3) -> BenchLine | None:
    """The line of a training whose steps take `seconds`, a quarter of each in the phase `network`."""
    clock = Clock(BenchProtocol(warmup=warmup, repeats=repeats), tools)
    training = clock.begin("rrm", "rrm", "joint")
    for each in seconds:
        with clock.phase("network"):
            tools.spend(each / 8)
            with clock.phase("mining"):
                tools.spend(each / 2)
            tools.spend(each / 8)
        tools.spend(each / 4)
        clock.tick("rrm", "rrm", 8)
    return clock.line(training)


def test_numbers_come_from_the_steps_after_the_warm_up_and_from_no_more_than_were_asked_for() -> None:
    line = laps(MadeUpTime(), [100.0, 50.0, 1.0, 2.0, 4.0, 1000.0])
    assert line is not None
    assert (line.step, line.what, line.batch) == ("rrm", "train joint", 8)
    assert line.times_ms == (1000, 2000, 4000)
    assert (line.median_ms, line.images_per_s) == (2000, 4.0)
    assert line.quartiles_ms == (1500, 3000)


def test_phases_are_means_of_the_measured_steps_and_add_up_with_the_rest_though_they_nest() -> None:
    line = laps(MadeUpTime(), [100.0, 50.0, 1.0, 2.0, 6.0, 1000.0])
    assert line is not None
    assert line.phases_ms == {"network": 750, "mining": 1500, "rest": 750}


def test_a_training_without_steps_after_its_warm_up_has_no_numbers() -> None:
    assert laps(MadeUpTime(), [1.0, 1.0]) is None
    line = laps(MadeUpTime(), [1.0, 1.0, 3.0])
    assert line is not None
    assert (line.times_ms, line.quartiles_ms) == ((3000,), (3000, 3000))


def test_on_a_gpu_nothing_waits_inside_a_measured_step_and_phases_have_steps_of_their_own() -> None:
    tools, waits = MadeUpTime(asynchronous=True), []
    clock = Clock(PROTOCOL, tools)
    training = clock.begin("rrm", "rrm", "joint")
    for step in range(clock.laps):
        before = tools.waits
        with clock.phase("network"):
            tools.spend(3.0 if step < 5 else 30.0)
        tools.spend(1.0)
        waits.append(tools.waits - before)
        clock.tick("rrm", "rrm", 4)
    assert waits == [0] * 5 + [2] * 3
    line = clock.line(training)
    assert line is not None
    assert line.times_ms == (4000, 4000, 4000)
    assert line.phases_ms == {"network": 30_000, "rest": 1000}


def test_a_loop_that_does_not_say_that_it_begins_is_measured_by_its_progress_alone() -> None:
    tools = MadeUpTime()
    clock = Clock(BenchProtocol(warmup=1, repeats=2), tools)
    for seconds, images in ((9.0, 4), (1.0, 0), (1.0, 4), (2.0, 4)):
        tools.spend(seconds)
        clock.tick("mine", "mine", images)
    (training,) = clock.trainings
    line = clock.line(training)
    assert line is not None
    assert (line.what, line.times_ms) == ("train", (2000, 2000))  # a call without images ends no step


def test_phases_of_other_threads_are_not_counted_in_the_step_beside_them() -> None:
    tools = MadeUpTime()
    clock = Clock(PROTOCOL, tools)

    def beside() -> None:
        with clock.phase("decode"):
            tools.spend(5.0)

    with clock.phase("wait for data"):
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
    assert clock.take() == {"wait for data": 5.0}


# ------------------------------------------------------------------------------------------- a whole method


def learn(ctx: Any, view: View, name: str, seconds: float, labels: Any = None) -> None:
    """The shared loop on a small network, of 40 steps that take `seconds` each."""
    net, plan = nn.Conv2d(3, 1, 1), Schedule(40, 0.01)

    def losses(batch: Batch) -> dict[str, Tensor]:
        with ctx.phase("network"):
            TOOLS.spend(seconds)
        return {"total": net(batch.images.float()).mean()}

    batches = CropBatches(view, CropRule(12), 2, ctx.seed("crops"), labels)
    train(ctx, name, net, make_optimizer(net, [], plan), batches, losses, plan)


class Duo(fake.Fake):
    """Two trainings, one of them shared; labels of class 1 everywhere."""

    card = StepCard("duo", "1", "localizer", ("tags",), ("maps", "labels"))

    def fit(self, train: View, given: Any, ctx: Any) -> Any:
        with ctx.shared("basics", 1) as own:
            learn(own, train, "basics", 2.0)
        learn(ctx, train, "main", 4.0)
        return self._predictor(ctx)

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        TOOLS.spend(0.5)
        chosen = np.flatnonzero(tags)
        maps = Maps(chosen, np.ones((len(chosen), 2, 2), np.float32))
        return Outputs(maps=maps, labels=np.ones(image.shape[1:], np.uint8))


class Pupil(fake.Fake):
    """Learns from labels, of which it notes what it saw."""

    card = StepCard("pupil", "1", "segmenter", ("tags",), ("labels",), learns_from=("labels",))

    def fit(self, train: View, given: Any, ctx: Any) -> Any:
        def label_of(sample: Any) -> Any:
            labels = given[sample.id].labels
            fake.note("pupil.saw", (sample.id, int(labels.max()), ctx.workdir))
            return labels

        learn(ctx, train, "pupil", 1.0, label_of)
        return self._predictor(ctx)

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        TOOLS.spend(0.25)
        return Outputs(labels=np.zeros(image.shape[1:], np.uint8))


class Refined(fake.Fake):
    """Labels from maps; it learns nothing."""

    card = StepCard("refined", "1", "refiner", (), ("labels",), takes=("maps",))

    def fit(self, train: View, given: Any, ctx: Any) -> Any:
        return self._predictor(ctx)

    def outputs(self, image: Any, tags: Any, before: Outputs) -> Outputs:
        assert before.maps is not None
        assert before.labels is None  # its card does not take them
        TOOLS.spend(1.5)
        return Outputs(labels=np.zeros(image.shape[1:], np.uint8))


class Greedy(Refined):
    """Has memory for two images, or for none."""

    card = dataclasses.replace(Refined.card, name="greedy", takes=())
    room: int = 2

    def _predictor(self, ctx: Any) -> Any:
        def predict(images: Any, tags: Any, given: Any, want: Any) -> list[Outputs]:
            if len(images) > Greedy.room:
                raise torch.cuda.OutOfMemoryError("no room")
            return [Outputs(labels=np.zeros(tuple(image.shape[1:]), np.uint8)) for image in images]

        return predict


class BenchPlugins(fake.FakePlugins):
    """The fakes, and those of this file."""

    def _installed(self) -> Iterator[Entry]:
        yield from super()._installed()
        for cls in (Duo, Pupil, Refined, Greedy):
            name = cls.card.name
            yield Entry("steps", name, f"here:{cls.__name__}", "here", "1", Path(__file__), cls)


def measured(method: str, protocol: BenchProtocol = PROTOCOL, said: list[str] | None = None) -> BenchRecord:
    """The record of `method` on the data set `toy`, in made-up time."""
    (trial,) = bench_trials(fake.settings(Path("runs"), method), BenchPlugins())
    talk: list[str] = [] if said is None else said
    return bench_trial(trial, CPU, protocol, talk.append, TOOLS)


def numbers(record: BenchRecord) -> dict[tuple[str, str], float]:
    return {(line.step, line.what): line.median_ms for line in record.lines}


def test_a_method_with_two_trainings_has_two_lines_and_a_predictor_one_for_each_split_and_way() -> None:
    record = measured("duo")
    assert numbers(record) == {
        ("duo", "train basics"): 2000,
        ("duo", "train main"): 4000,
        ("duo", "predict val"): 1500,  # 3 images: there are no more
        ("duo", "end to end val"): 1500,
        ("duo", "predict train, tags given"): 2500,
        ("duo", "end to end train, tags given"): 2500,
    }
    assert [line.batch for line in record.lines] == [2, 2, 3, 3, 5, 5]
    assert {len(line.times_ms) for line in record.lines} == {PROTOCOL.repeats}
    assert record.lines[0].phases_ms["network"] == 2000
    assert list(Path().iterdir()) == []  # nothing but the record, which is for the command to write


def test_each_step_of_a_recipe_has_a_line_and_end_to_end_counts_the_steps_before() -> None:
    found = numbers(measured("duo > refined"))
    assert found["refined", "predict val"] == 4500
    assert found["refined", "end to end val"] == 4500 + found["duo", "predict val"]
    assert found["duo", "end to end val"] == found["duo", "predict val"]


def test_what_a_step_learns_from_is_made_before_its_clock_runs_for_the_images_that_it_asks_for() -> None:
    record = measured("duo > pupil")
    seen = [what for name, what in fake.EVENTS if name == "pupil.saw"]
    rehearsal, real = ([s for s in seen if s[2].parent.name == part] for part in ("rehearsal", "steps"))
    assert [id for id, _, _ in rehearsal] == [id for id, _, _ in real]
    assert len(real) == 2 * (PROTOCOL.warmup + PROTOCOL.repeats)
    assert {label for _, label, _ in rehearsal} == {0}
    assert {label for _, label, _ in real} == {1}  # the labels of `duo`
    found = numbers(record)
    assert found["pupil", "train"] == 1000
    assert ("duo", "predict val") not in found  # a plain segmentation asks `pupil` alone
    assert ("duo", "predict train, tags given") in found


def test_a_step_that_runs_whole_is_said_not_to_be_measured_where_it_is_too_short() -> None:
    said: list[str] = []
    record = measured("first", said=said)
    assert {line.what.partition(" ")[0] for line in record.lines} == {"predict", "end"}
    assert [text for text in said if "1 step, and 2 are warm-up: not measured" in text]


def test_the_batch_is_halved_until_it_fits_and_the_one_that_fitted_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {line.batch for line in measured("greedy").lines} == {1, 2}  # of 3, and of 5 by way of 2
    monkeypatch.setattr(Greedy, "room", 0)
    with pytest.raises(WsssError, match="one image does not fit"):
        measured("greedy")


def test_labels_that_were_made_elsewhere_are_nothing_to_measure() -> None:
    folder = Path("masks")
    folder.mkdir()
    result = call("--method", f"import:{folder}", *SHAPES, *FEW)
    assert result.exit_code == 1
    assert "has no mask of val" in result.stderr
    assert "FAILED import:masks on shapes: there is nothing to measure" in result.stderr
    assert find_benches("runs") == []


@pytest.mark.parametrize(
    ("error", "sent"), [(KeyboardInterrupt, 0), (ValueError, 0), (KeyboardInterrupt, signal.SIGTERM)]
)
def test_nothing_stays_behind_when_a_fit_breaks_off(
    error: type[BaseException], sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        if sent:
            os.kill(os.getpid(), sent)
            threading.Event().wait(30)  # the signal ends it
        raise error

    monkeypatch.setitem(fake.FAULTS, "first.fit", broken)
    with pytest.raises(error):
        measured("first")  # the fixture looks for temporary folders
    assert list(Path().iterdir()) == []


def test_every_method_has_a_data_set_of_its_own_all_of_it_and_one_seed() -> None:
    asked = fake.settings(Path("runs"), "first", "other", seeds=(4, 5), limit=1)
    trials = bench_trials(asked, BenchPlugins())
    assert [trial.method for trial in trials] == ["first", "other"]
    assert trials[0].dataset is not trials[1].dataset
    assert {trial.seed for trial in trials} == {4}
    assert [line.batch for line in bench_trial(trials[1], CPU, PROTOCOL, print, TOOLS).lines] == [3, 3, 5, 5]


# ------------------------------------------------------------------------------------------------- command

SHAPES = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "--device", "cpu")
FEW = ("--warmup", "1", "--repeats", "2")
PLUGIN = Path(__file__).with_name("bright_step.py")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "camm"), ("unknown method 'camm'", "did you mean cam")),
        (("--method", "cam", "-o", "cam.preset=none"), ("cannot learn from scratch", "--weights cam=FILE")),
        (("--method", "bright", "--plugin", PLUGIN, "--method", "camm"), ("unknown method 'camm'",)),
        (("--method", "cam", "--warmup", "0"), ("--warmup", "0 is not in the range")),
        (("--method", "cam", "--repeats", "0"), ("--repeats", "0 is not in the range")),
        (("--method", "cam", "--seed", "-1"), ("seeds",)),
        (("--method", "cam", "--filter", "fast"), ("--filter", "lattice")),
        ((), ("no method is named",)),
    ],
)
def test_a_wrong_request_ends_with_exit_code_2_before_anything_is_measured(
    arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    result = call(*arguments, *SHAPES)
    assert result.exit_code == 2
    assert [word for word in words if word not in result.output] == []
    assert "Traceback" not in result.output
    assert list(Path().iterdir()) == []


def test_a_folder_of_runs_that_cannot_be_made_is_said_before_anything_is_measured() -> None:
    Path("file").write_text("in the way")
    result = call("--method", "constant", *SHAPES, "--runs", "file/runs")
    assert result.exit_code == 2
    assert "cannot write to this folder" in result.stderr


def test_the_built_in_methods_are_measured_and_the_report_shows_them() -> None:
    tiny = ("-o", "rrm.preset=tiny", "-o", "cam.preset=tiny")
    result = call("--method", "rrm", "--method", "cam > crf", *SHAPES, *tiny, *FEW, "--json", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    (table,) = json.loads(result.stdout)
    found = {(row["method"], row["step"], row["what"]): row for row in table["rows"]}
    trainings = {key: row["batch"] for key, row in found.items() if key[2].startswith("train")}
    assert trainings == {
        ("rrm", "rrm", "train classifier"): 4,
        ("rrm", "rrm", "train joint"): 2,
        ("cam > crf", "cam", "train classifier"): 4,
    }
    joint = found["rrm", "rrm", "train joint"]["phases_ms"]
    assert {"wait for data", "network", "mining", "energy", "backward", "optimizer", "rest"} == set(joint)
    crf = found["cam > crf", "crf", "end to end train, tags given"]["phases_ms"]
    assert {"read", "transfer", "network", "crf", "rest"} == set(crf)
    assert min(row["images_per_s"] for row in table["rows"]) > 0
    assert sorted(path.name for path in Path("runs").rglob("*") if path.is_file()) == ["bench.json"] * 2
    shown = CliRunner().invoke(main, ["report"], catch_exceptions=False)
    assert "## throughput: shapes on" in shown.stdout


FRAGILE = """
from wsssbench.types import NoConfig, Outputs, StepCard


class Fragile:
    Config, presets = NoConfig, {{}}
    card = StepCard("fragile", "1", "control", (), ("labels",))

    def __init__(self, config):
        self.config = config

    def fit(self, train, given, ctx):
        (ctx.workdir / "half").write_text("done")
        raise {error}

    restore = fit
"""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("ValueError('broken inside')", 1, "FAILED fragile on shapes: ValueError: broken inside"),
        ("KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_a_method_that_breaks_leaves_no_record_and_an_error_lets_the_others_go_on(
    error: str, code: int, said: str
) -> None:
    Path("fragile.py").write_text(FRAGILE.format(error=error))
    plugins = ("--plugin", "fragile.py", "--plugin", PLUGIN)
    result = call("--method", "fragile", "--method", "bright", *plugins, *SHAPES, *FEW, "-q")
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.output
    records = [record.method for record in find_benches("runs")]
    assert records == (["bright"] if code == 1 else [])


# ----------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_memory_is_the_devices_and_phases_are_told() -> None:
    tiny = ("--dataset", "shapes", "-o", "shapes.preset=tiny", "-o", "rrm.preset=tiny")
    longer = ("-o", "rrm.steps=5", "-o", "rrm.classifier_steps=5")
    result = call("--method", "rrm", *tiny, *longer, "--device", "cuda", *FEW, "--json", "-q")
    assert result.exit_code == 0
    (table,) = json.loads(result.stdout)
    assert table["machine"]["name"] == torch.cuda.get_device_name("cuda")
    assert min(row["peak_bytes"] for row in table["rows"]) > 0
    (joint,) = (row for row in table["rows"] if row["what"] == "train joint")
    assert (joint["precision"], len(joint["times_ms"])) == ("bf16", 2)
    assert min(joint["phases_ms"][name] for name in ("network", "mining", "energy", "backward")) > 0
