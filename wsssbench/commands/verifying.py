"""What `wsssbench verify` does: opens records and data sets, and prints a line for each record.

What is compared is `wsssbench.verifying.verify`'s.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from wsssbench.commands.judged_data import JudgedData
from wsssbench.commands.named_rows import records_below
from wsssbench.errors import NotComparable
from wsssbench.files.file_hashes import file_sha256
from wsssbench.identity import plain
from wsssbench.machine.process import keep_memory
from wsssbench.planning.settings import weights_of_steps
from wsssbench.records.store import StoredRecord
from wsssbench.verifying.verification import Mismatch, Verdict, Verification
from wsssbench.verifying.verify import verify_record

CODES: Mapping[Verdict, int] = {"ok": 0, "differs": 1, "cannot be verified": 3}
CHECKED = ("images", "numbers", "files")
SHOWN = 3  # differences of one part that a line names
DIGEST = 64  # letters of a sha256, of which a line shows the first twelve


def verify_command(runs: Sequence[Path], *, as_json: bool, **more: Any) -> int:
    """Print what became of each record below `runs`, as soon as it is known; the exit code."""
    keep_memory()
    found = []
    for seen in verified(records_below(runs), **more):
        found.append(seen)
        if not as_json:
            click.echo(as_line(seen))
    if as_json:
        click.echo(json.dumps([as_data(seen) for seen in found], indent=1, allow_nan=False))
    verdicts = [seen.verdict for seen in found]
    said = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in CODES)
    click.echo(f"records: {said}", err=True)
    return CODES["differs"] if "differs" in verdicts else max(CODES[verdict] for verdict in verdicts)


def verified(
    stored: Sequence[StoredRecord],
    options: Sequence[str],
    weights: Sequence[str],
    config: Path | None,
    *,
    from_masks: bool,
) -> Iterator[Verification]:
    """One `Verification` after the other; WsssError where what the command line says cannot be right."""
    judged, digests = JudgedData(options, config), _digests(stored, weights)
    for cell in stored:
        if judged.is_asked_for(cell.record):
            with contextlib.suppress(NotComparable):  # of that the line tells
                judged(cell.record)
        yield verify_record(
            cell,
            judged,
            judged.plugins,
            weights=digests,
            custom_stages=judged.settings.custom_stages,
            from_masks=from_masks,
        )


def _digests(stored: Sequence[StoredRecord], weights: Sequence[str]) -> dict[str, str]:
    """sha256 of the weight files that were given, by step."""
    recipes = [found.record.identity.recipe for found in stored]
    steps = {step.name for recipe in recipes for step in recipe if step.config.get("weights")}
    files = weights_of_steps(weights, steps)
    return {step: file_sha256(Path(file)) for step, file in files.items()}


# ------------------------------------------------------------------------------------------------ output


def as_line(seen: Verification) -> str:
    """Verdict and folder, then what differs, what could not be checked, or how much was."""
    said = [*_differences(seen.differs), *seen.unknown]
    if not said:
        said = [", ".join(f"{seen.checked[what]} {what}" for what in CHECKED if what in seen.checked)]
    notes = f" ({'; '.join(seen.notes)})" if seen.notes else ""
    text = f"{seen.verdict}: {seen.path.parent}: {'; '.join(said)}{notes}"
    return " ".join(text.split())


def _differences(differs: Sequence[Mismatch]) -> list[str]:
    """The first of each part in words, and how many more there are."""
    said = []
    for part in dict.fromkeys(difference.part for difference in differs):
        here = [difference for difference in differs if difference.part == part]
        said += [_words(difference) for difference in here[:SHOWN]]
        said += [f"and {len(here) - SHOWN} more of the {part}"] if len(here) > SHOWN else []
    return said


def _words(difference: Mismatch) -> str:
    if difference.recorded is None and isinstance(difference.found, str):
        return f"{difference.what}: {difference.found}"
    return f"{difference.what}: recorded {_short(difference.recorded)}, found {_short(difference.found)}"


def _short(value: Any) -> str:
    """Numbers in full, hashes by their first letters."""
    if isinstance(value, str):
        return value[:12] if len(value) == DIGEST and value.isalnum() else value or "nothing"
    return "nothing" if value is None else repr(value)


def as_data(seen: Verification) -> dict[str, Any]:
    """JSON types."""
    terms = seen.record.identity.terms
    return {
        "record": str(seen.path),
        "method": seen.record.method,
        "dataset": terms.dataset,
        "stage": terms.stage,
        "split": terms.split,
        "seed": seen.record.identity.seed,
        "verdict": seen.verdict,
        "differs": [plain(difference) for difference in seen.differs],
        "unknown": seen.unknown,
        "notes": seen.notes,
        "checked": seen.checked,
    }
