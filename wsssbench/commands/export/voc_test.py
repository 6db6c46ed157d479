"""`wsssbench export voc12-test`: a fitted run on VOC's test images, packed as the VOC server takes it.

The images have no tags and no masks here: the steps predict as in the cell's stage, with its CRF and scales.
The competition is comp5 for what has seen VOC data only, comp6 else. It is judged from the record alone,
strictly: what is not known counts as outside data.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsssbench.commands.export.recorded_cells import find_cell, title
from wsssbench.commands.export.voc_images import VOC, test_images
from wsssbench.dumps.voc_server import Competition, verify_voc_archive, write_voc_archive
from wsssbench.errors import BadData, WsssError
from wsssbench.files.atomic import safe_name
from wsssbench.files.image_files import picture_size, read_rgb
from wsssbench.identity import Record
from wsssbench.planning.settings import Settings
from wsssbench.plugins.table import Plugins
from wsssbench.records.store import StoredRecord
from wsssbench.running.opening import open_settings
from wsssbench.running.screen.progress import Progress
from wsssbench.verifying.recorded import recorded_card

if TYPE_CHECKING:
    from wsssbench.types import Mask

CLASSES = (  # what the server's labels 1..20 stand for
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)

AUGMENTED = "SegmentationClassAug"  # masks of SBD, which VOC does not give
OWN_PRETRAINING = ("none", "voc", "voc12")
OWN_SUPERVISION = ("tags", "class_names", "masks")


class WrongArchive(WsssError):
    """The archive that was just written does not pass its own check."""

    code = 1


def voc12_test_command(cell: Path, flags: Mapping[str, Any]) -> None:
    """Predict VOC's test images with the steps of `cell`, write the archive and check it."""
    stored = find_cell(cell, lambda record: not record.identity.terms.tags_at_evaluation)
    _check_cell(stored)
    competition, reasons = competition_of(stored.record, flags["competition"])
    settings, plugins = _settings(flags)
    images = test_images(flags["listed"], flags["images"], settings, plugins)
    sizes = {id: picture_size(path) for id, path in images.items()}
    out = flags["out"] or Path(_default_name(stored, competition))
    if out.is_dir():
        raise BadData("this is a folder", where=out, hint="--out names the archive, as results.tar.gz")
    from wsssbench.commands.fitted import open_fitted  # late: it needs torch

    labels = open_fitted(stored.path, flags["device"], plugins).labels(read_rgb(images[id]) for id in images)
    with Progress(quiet=flags["quiet"]).task(f"{title(stored.record)}: VOC test") as task:

        def counted(id: str) -> Mask:  # asked in the order of `images`
            found = next(labels)
            task.update(next(done), len(images), 1, {})
            return found

        done = itertools.count(1)
        write_checked(counted, tuple(images), sizes, out, competition)
    why = f" ({'; '.join(reasons)})" if reasons else ""
    click.echo(f"{len(images):,} masks of {title(stored.record)} in {out}, for {competition}{why}")


def write_checked(
    labels: Callable[[str], Mask],
    ids: Sequence[str],
    sizes: Mapping[str, tuple[int, int]],
    out: Path,
    competition: Competition,
) -> None:
    """Write the archive, read it again as the server would, and only then give it its name.

    WrongArchive where it fails the check: nothing of it stays.
    """
    passing = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        write_voc_archive(labels, ids, sizes, passing, competition)
        try:
            found = verify_voc_archive(passing, ids, sizes)
        except BadData as error:
            raise WrongArchive(f"the archive fails its check: {error.what}", where=out) from error
        if found != competition:
            raise WrongArchive(f"the archive is for {found}, not {competition}", where=out)
        passing.replace(out)
    finally:
        passing.unlink(missing_ok=True)


def _default_name(stored: StoredRecord, competition: str) -> str:
    """Of the archive, in the working folder."""
    return f"{safe_name(title(stored.record).replace(' ', '-'))}-{competition}.tar.gz"


def _check_cell(stored: StoredRecord) -> None:
    """BadData for a cell whose terms the test images cannot be predicted under."""
    terms = stored.record.identity.terms
    if terms.tags_at_evaluation:
        what = f"{terms.stage} is judged with tags given, and test images have none"
        raise BadData(what, where=stored.path, hint="name a cell of the stage seg, seg+crf, seg+ms, ...")
    if terms.classes != CLASSES:
        what = f"its {len(terms.classes)} classes are not the 20 of VOC in their order"
        raise BadData(what, where=stored.path, hint="the server takes labels of all of VOC's classes only")
    if terms.limit is not None:
        click.echo(f"this run has learned from {terms.limit:,} images only (--limit)", err=True)


def _settings(flags: Mapping[str, Any]) -> tuple[Settings, Plugins]:
    """Settings and plugins; WsssError for an option that would not matter."""
    for text in flags["options"]:
        if not text.startswith((f"{VOC}.", f"datasets.{VOC}.")):
            hint = "a step's options stand in the record of its run"
            raise WsssError(f"only options of {VOC} matter here", where=f"-o {text}", hint=hint)
    return open_settings({"plugins": flags["plugins"]}, flags["config"], flags["options"])


# --------------------------------------------------------------------------------------------- competition


def competition_of(record: Record, asked: Competition | None) -> tuple[Competition, list[str]]:
    """The competition, and what speaks against comp5; WsssError where comp5 is `asked` for all the same."""
    reasons = outside_data(record)
    if asked == "comp5" and reasons:
        what = f"comp5 is for methods that have seen VOC data only, and {'; '.join(reasons)}"
        raise WsssError(what, where="--competition", hint="leave it out: this row goes to comp6")
    return asked or ("comp6" if reasons else "comp5"), reasons


def outside_data(record: Record) -> list[str]:
    """What the row has seen beside the VOC data, as far as its record tells; empty where nothing."""
    identity, terms = record.identity, record.identity.terms
    reasons = [] if terms.dataset == VOC else [f"it has learned from {terms.dataset}"]
    for name in dict.fromkeys(step.name for step in identity.recipe):
        card = recorded_card(record, name)
        seen = card.pretraining if card and card.pretraining else "weights of unknown origin"
        if seen not in OWN_PRETRAINING:
            reasons.append(f"{name} starts from {seen}")
    reasons += [f"it uses {s} supervision" for s in identity.supervision if s not in OWN_SUPERVISION]
    if "masks" in identity.supervision and AUGMENTED in _masks_learned_from(record):
        reasons.append("it has learned from SBD's masks")
    return reasons


def _masks_learned_from(record: Record) -> str:
    """The mask folders of the split that was learned from, as the data set's options name them."""
    card = record.provenance.get("dataset", {})
    folders, split = card.get("options", {}).get("masks", {}), card.get("fit_split", "")
    return str(folders.get(split, AUGMENTED) if isinstance(folders, dict) else AUGMENTED)
