"""`wsssbench plot`: the figures that records (and the logs of their trainings) allow, as files.

What a figure shows is `wsssbench.reporting.figures`; here records are found and files are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from matplotlib.figure import Figure

from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.files.atomic import atomic_write_text, safe_name
from wsssbench.machine.process import keep_memory
from wsssbench.planning.staleness import stale_keys
from wsssbench.plugins.table import Plugins
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.figures.bars import miou_figure
from wsssbench.reporting.figures.drawn import CAPTIONS, table_figures, training_figures
from wsssbench.reporting.figures.style import FORMATS, save
from wsssbench.reporting.sections import Section, sections_of


def plot_command(
    runs: Sequence[Path],
    out: Path,
    formats: Sequence[str],
    methods: Sequence[str],
    stages: Sequence[str],
    limited: bool,
) -> None:
    """Write every figure that the records below `runs` allow, and captions.md; print the files."""
    keep_memory()
    check_formats(formats)
    stored, sections = chosen_sections(runs, methods, stages, limited)
    captions = ["# Captions\n"]
    for name, kind, figure in named_figures(stored, sections):
        files = save(figure, out / name, formats)
        captions.append(f"**{name}**: {CAPTIONS[kind]}\n")
        click.echo("\n".join(map(str, files)))
    if len(captions) == 1:
        raise BadData("these records have nothing to draw", where=", ".join(map(str, runs)))
    atomic_write_text(out / "captions.md", "\n".join(captions))
    click.echo(str(out / "captions.md"))


def check_formats(formats: Sequence[str]) -> None:
    """UnknownName for a format that no figure is written in."""
    for name in formats:
        if name not in FORMATS:
            raise UnknownName(f"no format {name!r}", where="--format", hint=nearest(name, FORMATS))
    if not formats:
        raise WsssError("no format is named", where="--format", hint=f"one or more of {', '.join(FORMATS)}")


def chosen_sections(
    runs: Sequence[Path], methods: Sequence[str], stages: Sequence[str], limited: bool
) -> tuple[list[StoredRecord], list[Section]]:
    """The records below `runs` and their tables, of these methods and stages where any are named.

    BadData without any row, UnknownName for a method or stage that no record has.
    """
    stored = list({s.path.resolve(): s for root in runs for s in find_records(root)}.values())
    records = [s.record for s in stored]
    known = {
        "--method": (methods, sorted({record.method for record in records})),
        "--stage": (stages, sorted({record.identity.terms.stage for record in records})),
    }
    for where, (asked, names) in known.items():
        for name in asked:
            if records and name not in names:
                raise UnknownName(f"no record of {name!r}", where=where, hint=nearest(name, names))
    stale = stale_keys(records, Plugins())
    sections = sections_of(stored, limited=limited, stale=stale, methods=methods, stages=stages)
    if not sections:
        hidden = " (runs with --limit want --limited)" if records and not limited else ""
        raise BadData(f"no rows here{hidden}", where=", ".join(map(str, runs)), hint="name a folder of runs")
    return stored, sections


def named_figures(
    stored: Sequence[StoredRecord], sections: Sequence[Section]
) -> Iterator[tuple[str, str, Figure]]:
    """File name without suffix, kind and figure: of mIoU for each data set, what each table allows, and of
    each step that was trained."""
    for dataset in dict.fromkeys(section.terms.dataset for section in sections):
        figure = miou_figure([section for section in sections if section.terms.dataset == dataset])
        if figure is not None:
            yield f"miou-{safe_name(dataset)}", "miou", figure
    for section, name in zip(sections, section_names(sections), strict=True):
        for kind, figure in table_figures(section):
            yield f"{kind}-{name}", kind, figure
    for dataset, step, figure in training_figures(stored, sections):
        yield f"training-{safe_name(dataset)}-{safe_name(step)}", "training", figure


def section_names(sections: Sequence[Section]) -> list[str]:
    """A file name for each table: data set, stage, split; where that is not enough the threshold policy, and
    where that is not enough either the hash of its terms."""
    choices = []
    for section in sections:
        terms, hash = section.terms, section.lines[0].row.terms_hash[:8]
        short = f"{terms.dataset}-{terms.stage}-{terms.split}"
        choices.append((short, f"{short}-{terms.threshold_policy}", f"{short}-{hash}"))
    counts = Counter(name for names in choices for name in names)
    return [safe_name(next(name for name in names if counts[name] == 1)) for names in choices]
