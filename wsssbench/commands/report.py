"""`wsssbench report` and `gate`: tables and verdicts over records, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from wsssbench.errors import NotComparable, WsssError
from wsssbench.files.atomic import atomic_write_text
from wsssbench.records.finding import find_records

NOTHING = "next: `wsssbench run --method constant --dataset shapes` makes a first row"


def report_command(
    runs: Sequence[Path], format: str, out: Path | None, limited: bool, published: bool = False
) -> None:
    """Print (or write to `out`) the tables of the records below `runs`; `published`: what others report."""
    from wsssbench.reporting import NO_RECORDS, report

    text = report(runs, format, limited, published)
    if text == NO_RECORDS:
        click.echo(NOTHING, err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        atomic_write_text(out, text)
        click.echo(f"wrote {out}", err=True)


def gate_command(
    runs: Sequence[Path], baseline: Path, write: bool, tolerance: float, interval: bool = False
) -> int:
    """Judge `runs` by `baseline` and return the exit code; with `write`, make the baseline from them."""
    from wsssbench.reporting.gate import gate_runs, write_baseline

    if not write:
        result = gate_runs(runs, baseline, interval=interval)
        click.echo(str(result), nl=False)
        return result.code
    if not 0 <= tolerance < 100:
        raise WsssError("a tolerance is a number of points", where="--tolerance", hint="as --tolerance 1.5")
    content = write_baseline([s.record for root in runs for s in find_records(root)], tolerance)
    if not content["rows"]:
        raise NotComparable(
            "no records to make a baseline of",
            where=", ".join(map(str, runs)),
            hint="`wsssbench run` makes them",
        )
    atomic_write_text(baseline, json.dumps(content, indent=1) + "\n")
    click.echo(f"wrote {len(content['rows'])} rows to {baseline}", err=True)
    return 0
