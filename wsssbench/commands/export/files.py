"""`wsssbench export psa`, `png` and `records`: a cell's maps as PSA's dicts, its labels as palette PNGs, and
the numbers of runs in one file. No torch."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from wsssbench.artifacts import ArtifactFolder
from wsssbench.commands.export.recorded_cells import cell_ids, find_cell, judged_outputs, title
from wsssbench.commands.named_rows import records_below
from wsssbench.dumps.exporters import write_psa_dict
from wsssbench.errors import BadData, WsssError, first_names
from wsssbench.files.image_files import picture_size
from wsssbench.masks import lacking_masks, missing_masks, read_labels, write_labels
from wsssbench.planning.cells import PlannedStep
from wsssbench.plugins.table import dataset_plugin
from wsssbench.records.record_archive import SUFFIX, pack
from wsssbench.records.store import StoredRecord
from wsssbench.running.screen.progress import Progress
from wsssbench.verifying.recorded import recorded_steps

MASKS = "masks"


def png_command(cell: Path, out: Path, quiet: bool = False) -> None:
    """Write the labels that the cell was judged by as out/<id>.png, class indices in the VOC palette."""
    stored = find_cell(cell)
    ids, masks = cell_ids(stored), _masks(stored)
    with new_folder(out) as place, Progress(quiet=quiet).task(f"{title(stored.record)}: png") as task:
        for done, id in enumerate(ids, 1):
            write_labels(place / f"{id}.png", read_labels(masks / f"{id}.png"))
            task.update(done, len(ids), 1, {})
    click.echo(f"{len(ids):,} masks of {title(stored.record)} in {out}")


def psa_command(cell: Path, out: Path, quiet: bool = False) -> None:
    """Write the maps that the cell was judged by as out/<id>.npy, dicts {class from 0: (H, W)} as PSA's.

    Their sizes are those of the cell's labels, which are the images'.
    """
    stored = find_cell(cell, lambda record: bool(record.provenance.get("cards")))
    planned, outputs = judged_outputs(stored)
    masks = _masks(stored)
    _check_maps(stored, planned, outputs)
    with new_folder(out) as place, Progress(quiet=quiet).task(f"{title(stored.record)}: psa") as task:
        for done, id in enumerate(outputs.ids, 1):
            maps = outputs.read(id, ["maps"]).maps
            assert maps is not None
            write_psa_dict(place / f"{id}.npy", maps, _size(masks / f"{id}.png"))
            task.update(done, len(outputs), 1, {})
    click.echo(f"{len(outputs):,} files of maps of {planned.name}, {title(stored.record)}, in {out}")


def records_command(runs: Sequence[Path], out: Path) -> None:
    """Pack the records below `runs` into the archive `out`; BadData where there is none, or for no .zip."""
    if out.suffix != SUFFIX:
        hint = f"the last argument is the archive: give it a name such as {out.name or 'records'}{SUFFIX}"
        raise BadData("an archive of records ends in .zip", where=out, hint=hint)
    cells = records_below(runs)
    size = pack(cells, out)
    failed = sum(cell.record.status != "ok" for cell in cells)
    also = f", {failed} of them of failed cells" if failed else ""
    click.echo(f"{len(cells):,} records{also} in {out} ({size / 1e6:.1f} MB)")


def _masks(stored: StoredRecord) -> Path:
    """The folder of the cell's labels; BadData where one of them is not there."""
    folder, ids = stored.path.parent / MASKS, cell_ids(stored)
    missing = missing_masks(folder, ids)
    if missing:
        raise lacking_masks(folder, missing, len(ids), stored.record.identity.terms.split)
    return folder


def _size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture, from its header."""
    return picture_size(path, "mask", "run the cell again")


def _check_maps(stored: StoredRecord, planned: PlannedStep, outputs: ArtifactFolder) -> None:
    """BadData where the judged step has no maps on disk; it says which stage makes them."""
    missing = outputs.missing(["maps"])
    if not missing:
        return
    record, where = stored.record, outputs.folder / "maps"
    makers = [step.name for step in recorded_steps(stored) if "maps" in step.gives]
    dataset = dataset_plugin(record.identity.terms.dataset)
    asked = f"wsssbench run --method {shlex.quote(record.method)} --dataset {dataset}"
    hint = f"no step of {record.method} gives maps"
    if makers:
        hint = f"`{asked} --stages seed` makes those of {makers[0]}; then export that cell"
    if "maps" not in planned.gives:
        raise BadData(
            f"{planned.name} gives no maps: {', '.join(planned.gives)}", where=stored.path, hint=hint
        )
    if record.identity.terms.stage == "seed" or record.identity.threshold is not None:
        folder = stored.path.parent.name
        hint = f"removed by `wsssbench clean`? remove {folder} and run again: nothing is fitted again"
    what = (
        f"{len(missing):,} of {len(outputs):,} images have no maps of {planned.name}: {first_names(missing)}"
    )
    raise BadData(what, where=where, hint=hint)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes `out` when all went well, and is gone when not.

    BadData where `out` is a file or holds something: what is there is never mixed with what comes.
    """
    target = out.expanduser().resolve()
    hint = "name a folder that does not exist yet"
    if target.is_dir() and (target == Path.cwd() or any(target.iterdir())):
        raise BadData("this folder is not empty, or the working folder", where=out, hint=hint)
    if target.exists() and not target.is_dir():
        raise BadData("there is a file of this name", where=out, hint=hint)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as passing:
            place = Path(passing) / "files"
            place.mkdir()
            yield place
            if target.is_dir():
                target.rmdir()
            place.rename(target)
    except OSError as error:
        hint = "choose a folder you may write to, with space left"
        raise WsssError(f"cannot write: {error.strerror or error}", where=out, hint=hint) from error
