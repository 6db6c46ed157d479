"""What is handed on, as functions of `wsssbench.api`: figures, a paper's parts, packed records and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from wsssbench.api.arguments import Names, Options, Places, as_folders, as_names, as_path, as_texts
from wsssbench.api.results import Place


def plot(
    out: Place,
    runs: Places = None,
    *,
    formats: Names = ("png", "svg"),
    methods: Names = (),
    stages: Names = (),
    limited: bool = False,
) -> Path:
    """Write every figure that the records below `runs` allow, and captions.md, to the folder `out`."""
    from wsssbench.commands.plot import plot_command

    plot_command(as_folders(runs), Path(out), as_names(formats), as_names(methods), as_names(stages), limited)
    return Path(out)


def paper(
    out: Place,
    runs: Places = None,
    *,
    methods: Names = (),
    stages: Names = (),
    limited: bool = False,
    count: int = 4,
    images: Literal["median", "random"] = "median",
    seed: int = 0,
    options: Options | None = None,
    config: Place | None = None,
) -> Path:
    """Write what a paper needs of `runs` to the folder `out`: LaTeX tables, the protocol in words, hashes, a
    figure of masks with `count` images."""
    from wsssbench.commands.paper import paper_command

    paper_command(
        as_folders(runs), Path(out), as_names(methods), as_names(stages), limited, count, images, seed,
        as_texts(options), as_path(config),
    )  # fmt: skip
    return Path(out)


def export_records(out: Place, runs: Places = None) -> Path:
    """Pack the records below `runs`, with the confusion of every image, into the new file `out` (.zip)."""
    from wsssbench.commands.export.files import records_command

    records_command(as_folders(runs), Path(out))
    return Path(out)


def export_labels(cell: Place, out: Place, format: Literal["png", "psa"] = "png") -> Path:
    """Write the labels of a cell (palette PNGs) or the maps behind it (PSA dicts) to the new folder `out`."""
    from wsssbench.commands.export import files

    (files.png_command if format == "png" else files.psa_command)(Path(cell), Path(out), quiet=True)
    return Path(out)
