"""Files that another program has written for each image, as the outputs of a step: what kind a folder holds,
and one image's file read and checked. How they were made, and by whom, is not known here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsssbench.dumps import find_dump, list_formats, read_dump
from wsssbench.dumps.array_files import read_arrays
from wsssbench.dumps.formats import AUTO
from wsssbench.dumps.label_pictures import is_png_file
from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.files.digests import SUFFIXES
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.types import SUPERVISION, DatasetCard, Kind, Outputs, option

FORMATS_HELP = "`wsssbench score --format help` lists the formats"


@dataclass(frozen=True)
class FileOptions:
    """How the files are read, as in `wsssbench score`."""

    format: str = option(AUTO, f"of the files; {FORMATS_HELP}")
    class_index: int | None = option(None, "of files with one bare map: its class, from 0", low=0)
    rescale: bool = option(False, "of maps beyond 0..1: divide each by its largest value")
    threshold: float = option(
        0.3,
        "of maps: value above which a pixel is foreground; give the one that their maker uses",
        low=0,
        high=1,
    )


def first_file(folder: Path) -> Path | None:
    """The first file, by name, of the suffix that most files of `folder` have; None where it has no dump.

    Tag files and notes lie beside dumps: the suffix of the most is that of the dumps.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES) if folder.is_dir() else []
    if not files:
        return None
    ((common, _),) = Counter(path.suffix for path in files).most_common(1)
    return next(path for path in files if path.suffix == common)


def kind_of_format(name: str, where: str) -> Kind:
    """What files of the format `name` hold; UnknownName with the nearest."""
    holds: dict[str, Kind] = {known.name: known.holds for known in list_formats()}
    if name not in holds:
        raise UnknownName(f"unknown format {name!r}", where=where, hint=nearest(name, [AUTO, *holds]))
    return holds[name]


def kind_of_file(path: Path, option_name: str) -> Kind:
    """What the file at `path` holds, by its content and for a data set of any number of classes.

    BadData for a file that is damaged or has no clear format; `option_name` is where to name one.
    """
    if is_png_file(path):
        return "labels"
    content = read_arrays(path)
    fitting = [known for known in list_formats() if known.fits(content)]
    kinds: set[Kind] = {known.holds for known in fitting if known.automatic}
    if len(kinds) != 1:
        could = ", ".join(known.name for known in fitting) or "none of the known ones"
        hint = f"name it by -o {option_name}=FORMAT; it could be: {could}; {FORMATS_HELP}"
        raise BadData("the format of this file is not clear", where=path, hint=hint)
    return kinds.pop()


def palettes_of(card: DatasetCard) -> LabelPalettes:
    """What watches over the palettes of one folder of label pictures."""
    return LabelPalettes(len(card.class_names), card.palette)


def read_outputs(
    folder: Path,
    id: str,
    shape: tuple[int, int],
    card: DatasetCard,
    kind: Kind,
    options: FileOptions,
    palettes: LabelPalettes,
) -> Outputs:
    """The file of image `id` as outputs with `kind`, for an image of `shape` (H, W).

    Maps and probabilities keep the size that they have, those of logits get the image's. BadData names a file
    that is missing, damaged, of another kind, has labels of another size than the image, maps of another
    ratio of the sides, a class that the data set has not, or a palette that was renumbered.
    """
    path = find_dump(folder, id)
    dump = read_dump(
        path,
        len(card.class_names),
        options.format,
        class_index=options.class_index,
        rescale=options.rescale,
        shape=shape,
        palettes=palettes,
    )
    found = dump.outputs()
    if getattr(found, kind) is None:
        what = f"this file is {dump.format}, which holds {kind_of_format(dump.format, '')}, not {kind}"
        raise BadData(what, where=path, hint="all files of a step are of one kind; name it by its options")
    if found.labels is not None and found.labels.shape != shape:
        hint = "labels must have the size of the image"
        raise BadData(f"the mask is {found.labels.shape}, its image {shape}", where=path, hint=hint)
    return found


def check_class(options: FileOptions, card: DatasetCard, step: str) -> None:
    """WsssError where the files' class is none of the data set's."""
    count = len(card.class_names)
    if options.class_index is not None and options.class_index >= count:
        what = f"class {options.class_index} is none of the {count} classes of {card.name}"
        raise WsssError(what, where=f"{step}.class_index", hint=f"0 to {count - 1}")


def checked_supervision(names: Sequence[str], where: str) -> tuple[str, ...]:
    """`names` in order, each once; UnknownName for one that no card may have."""
    for name in names:
        if name not in SUPERVISION:
            raise UnknownName(f"unknown supervision {name!r}", where=where, hint=nearest(name, SUPERVISION))
    return tuple(sorted(set(names)))
