"""The calls of fitted predictors under the clock: without tags on the evaluation split, with tags on the
split that is labelled, each step of the recipe that this takes; alone, and from the files on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from wsssbench.errors import WsssError
from wsssbench.planning.cells import Trial
from wsssbench.planning.plan import judged_kind, judged_step, nothing_to_say, skip_reason
from wsssbench.planning.stages import STAGES
from wsssbench.running.predicting import looks_up
from wsssbench.throughput.chain import Link, links_of, read_pictures, run_link
from wsssbench.throughput.clock import Clock
from wsssbench.throughput.record import BenchLine, Lap, bench_line
from wsssbench.types import Outputs, Predictor

ASKED = (STAGES["seg"], STAGES["pseudo"])  # plain segmentation, and labels of training images


class Question(NamedTuple):
    """What predictors are asked, batch after batch."""

    links: tuple[Link, ...]
    split: str
    tags_given: bool

    @property
    def where(self) -> str:
        return f"{self.split}, tags given" if self.tags_given else self.split


def questions_of(trial: Trial, say: Callable[[str], None]) -> Iterator[Question]:
    """The questions that a run would ask of this recipe; `say` hears which ones it cannot answer."""
    card = trial.dataset.card
    for stage in ASKED:
        split = card.label_split if stage.split == "label" else card.eval_split
        planned = judged_step(trial.steps, stage)
        kind = judged_kind(planned, stage)
        reason = skip_reason(planned, stage) or nothing_to_say(planned, trial.dataset, split, None)
        if reason or kind is None:
            say(f"{trial.method}: no prediction on {split}: {reason}")
            continue
        yield Question(links_of(planned, {kind}), split, stage.tags_given)


class Inference:
    """Asks the predictors of one trial."""

    def __init__(self, trial: Trial, predictors: Mapping[str, Predictor], clock: Clock, device: str) -> None:
        self.trial, self.predictors, self.clock, self.device = trial, predictors, clock, device

    def lines(self, question: Question) -> list[BenchLine]:
        """Two lines for each step that works: the call alone, and with what has to be done before it.

        The batch is halved until it fits the GPU's memory; WsssError where one image does not.
        """
        ids = self.trial.dataset.ids(question.split)
        batch = min(self.clock.protocol.predict_batch, len(ids))
        while batch:
            found = self._lines_at(question, ids, batch)
            if found is not None:
                return found
            torch.cuda.empty_cache()
            batch //= 2
        raise WsssError(
            "one image does not fit the memory of the GPU",
            where=f"{self.trial.method} on {question.where}",
            hint="measure a smaller network, or on --device cpu",
        )

    def _lines_at(self, question: Question, ids: Sequence[str], batch: int) -> list[BenchLine] | None:
        """The lines at this batch; None where it does not fit."""
        self.clock.tools.reset_peak()
        try:
            laps = self._laps(question, ids, batch)
        except torch.cuda.OutOfMemoryError:
            return None
        peak, lines = self.clock.tools.peak_bytes(), []
        count = self.clock.protocol.repeats
        for number, link in enumerate(question.links):
            if looks_up(self.predictors[link.planned.key]):
                continue  # it reads what was made elsewhere
            alone, whole = ([lap[number][way] for lap in laps] for way in (0, 1))
            name = link.planned.name
            lines.append(bench_line(name, f"predict {question.where}", alone[:count], [], peak))
            told = whole[-count:]  # on the CPU the measured ones
            lines.append(bench_line(name, f"end to end {question.where}", whole[:count], told, peak))
        return lines

    def _laps(self, question: Question, ids: Sequence[str], batch: int) -> list[list[tuple[Lap, Lap]]]:
        """The laps of every call that counts: the measured ones, and on a GPU those that tell phases."""
        clock, protocol = self.clock, self.clock.protocol
        clock.phases_told = not clock.tools.asynchronous
        laps = []
        for call in range(protocol.warm_calls + clock.laps - protocol.warmup):
            if call >= protocol.warm_calls + protocol.repeats:
                clock.phases_told = True
            chosen = [ids[(call * batch + k) % len(ids)] for k in range(batch)]
            laps.append(self._call(question, chosen))
        return laps[protocol.warm_calls :]

    def _call(self, question: Question, ids: Sequence[str]) -> list[tuple[Lap, Lap]]:
        """One batch through all steps: for each its own lap, and that from the files to its outputs."""
        clock, tools, laps = self.clock, self.clock.tools, []
        clock.take()
        start = tools.now()
        with clock.phase("read"):
            pictures = read_pictures(self.trial.dataset, ids, tags_given=question.tags_given)
        with clock.phase("transfer"):
            pictures = pictures.to(self.device)
        phases = clock.take()
        found: Sequence[Outputs] = [Outputs()] * len(ids)
        for link in question.links:
            tools.synchronise()
            begin = tools.now()
            found = run_link(link, self.predictors[link.planned.key], pictures, found)
            tools.synchronise()
            end, own = tools.now(), clock.take()
            phases = {name: phases.get(name, 0.0) + own.get(name, 0.0) for name in {**phases, **own}}
            laps.append((Lap(end - begin, len(ids), own), Lap(end - start, len(ids), phases)))
        return laps
