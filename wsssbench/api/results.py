"""What the functions of `wsssbench.api` return: plain objects in a row, which `print` shows as text and a
notebook as tables. Nothing is computed here, and nothing heavy is imported before something is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pandas import DataFrame

    from wsssbench.commands.compare import Comparison  # noqa: F401  (likewise)
    from wsssbench.commands.error_tables import MethodErrors  # noqa: F401  (likewise)
    from wsssbench.commands.mined import MinedLabels  # noqa: F401  (likewise)
    from wsssbench.planning.cells import Cell  # noqa: F401  (likewise)
    from wsssbench.reporting.gate import GateLine, GateResult  # noqa: F401  (likewise)
    from wsssbench.reporting.rows import Row  # noqa: F401  (likewise)
    from wsssbench.throughput.record import BenchRecord  # noqa: F401  (named in a base class)
    from wsssbench.types import Image, Mask
    from wsssbench.verifying.verification import Verification  # noqa: F401  (likewise)

T = TypeVar("T")
Place: TypeAlias = Path | str


class Table(tuple[T, ...], Generic[T]):
    """Plain objects in a row, which a notebook or `print` shows as markdown."""

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def _repr_markdown_(self) -> str:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        from wsssbench.reporting.notebook import html_of

        return html_of(self._repr_markdown_())


class Rows(Table["Row"]):
    """Rows as they stand in the tables (`wsssbench.reporting.rows.Row`), best first within equal terms."""

    @property
    def failures(self) -> dict[str, tuple[str, ...]]:
        """The reasons of failed cells, and of later attempts at finished ones that failed, by method."""
        return {row.title: (*row.reasons, *row.later) for row in self if row.reasons or row.later}

    def text(self, format: str = "md") -> str:
        """The tables as "md", "csv" or "json"."""
        from wsssbench.reporting.tables import render

        return render(list(self), format)

    def frame(self) -> DataFrame:
        """One line per row with every number (miou_mean, miou_sd, ...), for pandas."""
        import io

        import pandas

        return pandas.read_csv(io.StringIO(self.text("csv"))) if self else pandas.DataFrame()

    def _repr_markdown_(self) -> str:
        return self.text() if self else "No rows."


class Cells(Table["Cell"]):
    """What a run would do, a `wsssbench.planning.cells.Cell` each: `state` is done, stale, missing,
    failed or skip."""

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.run import plan_table

        return plan_table(self)


class Comparisons(Table["Comparison"]):
    """The first method minus each other one (`wsssbench.commands.compare.Comparison`), with intervals."""

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.compare import as_text

        return as_text(self)


class Gate(Table["GateLine"]):
    """What became of each row of a baseline (`wsssbench.reporting.gate.GateLine`)."""

    result: GateResult

    @property
    def code(self) -> int:
        """The command's exit code: 0 all well, 1 a regression or a failed cell, 3 not comparable."""
        return self.result.code

    def _repr_markdown_(self) -> str:
        return str(self.result)


class Benches(Table["BenchRecord"]):
    """How fast methods were (`wsssbench.throughput.record.BenchRecord`), and which could not be measured."""

    failures: dict[str, str]  # "method on data set" -> why

    def _repr_markdown_(self) -> str:
        from wsssbench.reporting.tables import render
        from wsssbench.reporting.throughput import throughput_tables

        failed = [f"- FAILED {title}: {why}" for title, why in self.failures.items()]
        return "\n".join([render((), "md", throughput_tables(self)), *failed])


class Errors(Table["MethodErrors"]):
    """What each kind of error costs, and where methods err
    (`wsssbench.commands.error_tables.MethodErrors`)."""

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.error_tables import as_text

        return as_text(self)


class MinedRows(Table["MinedLabels"]):
    """What mined labels teach, by data set and method (`wsssbench.commands.mined.MinedLabels`)."""

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.mined import as_text

        return as_text(self) if self else "No mined labels."


class Verifications(Table["Verification"]):
    """What became of each record that was judged again (`wsssbench.verifying.verification.Verification`)."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs and everything could be verified."""
        return all(seen.verdict == "ok" for seen in self)

    def _repr_markdown_(self) -> str:
        from wsssbench.commands.verifying import as_line

        return "\n".join(f"- {as_line(seen)}" for seen in self)


@dataclass(frozen=True)
class Prediction:
    """The labels of one image: `labels` (H, W) in {0..K, 255}, `image` (H, W, 3) RGB."""

    name: str
    image: Image
    labels: Mask
    class_names: tuple[str, ...]  # label k + 1 is class_names[k]

    @property
    def found(self) -> tuple[str, ...]:
        """The names of the classes in it, without background."""
        import numpy as np

        return tuple(
            self.class_names[k - 1] for k in np.unique(self.labels) if 0 < k <= len(self.class_names)
        )


class Predictions(Table["Prediction"]):
    """Labels of your own images; a notebook shows them laid over the images."""

    def write(self, folder: Place) -> Path:
        """Write <folder>/<name>.png, palette PNGs with class indices."""
        from wsssbench.masks import write_labels

        for one in self:
            write_labels(Path(folder) / f"{one.name}.png", one.labels)
        return Path(folder)

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {one.name}: {', '.join(one.found) or 'background alone'}" for one in self)

    def _repr_html_(self) -> str:
        from wsssbench.masks import overlay
        from wsssbench.reporting.notebook import html_pictures

        titles = [f"{one.name}: {', '.join(one.found) or 'background alone'}" for one in self]
        return html_pictures(titles, [overlay(one.image, one.labels) for one in self])


@dataclass(frozen=True)
class Report:
    """Text of a report; a notebook shows markdown as tables, and a page in a frame."""

    text: str
    format: str

    def __str__(self) -> str:
        return self.text

    def write(self, path: Place) -> Path:
        """Write it to a file, whole or not at all."""
        from wsssbench.files.atomic import atomic_write_text

        atomic_write_text(path, self.text)
        return Path(path)

    def _repr_markdown_(self) -> str:
        return self.text if self.format == "md" else f"```{self.format}\n{self.text}```"

    def _repr_html_(self) -> str:
        from wsssbench.reporting.notebook import framed, html_of, preformatted

        if self.format == "html":
            return framed(self.text)
        return html_of(self.text) if self.format == "md" else preformatted(self.text)
