"""The pictures of one table: image, truth, each method's mask with its wrong pixels, and heat maps.

Of one seed, of a bounded number of methods and images, chosen by `wsssbench.reporting.choice`. The data
set is opened by the caller; what is not on disk is left out, and the note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from wsssbench.artifacts import ArtifactFolder
from wsssbench.errors import WsssError
from wsssbench.identity import Record
from wsssbench.masks import VOID_COLOUR, read_labels, voc_palette
from wsssbench.planning.cells import artifact_name
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.choice import EACH, RULE_SENTENCE, Chosen, choose, common_scores
from wsssbench.reporting.figures.drawn import step_folders
from wsssbench.reporting.page import pictures
from wsssbench.reporting.sections import Section, masks_of
from wsssbench.types import IGNORE, Dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import CountsTable

METHODS = 6  # whose masks are shown
Shown: TypeAlias = "tuple[str, StoredRecord, CountsTable]"  # title of a row, its cell, the counts
Opener: TypeAlias = Callable[
    [Record], Dataset
]  # the data set that a record was judged on; WsssError if it is gone


@dataclass(frozen=True)
class Layer:
    """One picture over the photo: a truth, a mask or a heat map."""

    title: str
    alt: str
    uri: str
    wrong: str = ""  # marks on wrong pixels; empty where nothing is judged
    score: str = ""
    smooth: bool = False  # enlarged smoothly: a heat map


@dataclass(frozen=True)
class Figure:
    """One image with its layers."""

    id: str
    why: str
    width: int
    height: int
    photo: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Gallery:
    """The figures, the rule by which they were chosen, and what the colours mean."""

    figures: tuple[Figure, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()  # (class, CSS colour)
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of all pictures in the page."""
        return sum(
            len(f.photo) + sum(len(layer.uri) + len(layer.wrong) for layer in f.layers) for f in self.figures
        )

    @property
    def layer_titles(self) -> list[str]:
        """Of all figures, in order."""
        return list(dict.fromkeys(layer.title for figure in self.figures for layer in figure.layers))


def gallery_of(section: Section, open_data: Opener, each: int = EACH) -> Gallery:
    """The gallery of a table; without figures, but with the reason, where something is missing."""
    shown = section.pictured(METHODS)
    if not shown:
        return Gallery(note="No gallery: no row has both masks and counts on disk.")
    try:
        data = open_data(shown[0][1].record)
        ids, scores = common_scores([table for *_, table in shown], len(section.terms.classes))
        heats = _heat_maps(section, shown)
        figures = tuple(
            _figure(data, section, choice, shown, scores[:, ids.index(choice.id)].tolist(), heats)
            for choice in choose(ids, scores, each)
        )
    except WsssError as error:
        return Gallery(note=f"No gallery: the data set cannot be shown ({error.what}).")
    return Gallery(figures, _legend(section), _note(section, shown, heats, each))


# ------------------------------------------------------------------------------------------------ pictures


def _figure(
    data: Dataset,
    section: Section,
    choice: Chosen,
    shown: Sequence[Shown],
    scores: Sequence[float],
    heats: Mapping[str, ArtifactFolder],
) -> Figure:
    image, gold = data.image(choice.id), data.mask(choice.id)
    names = section.class_names
    truth = Layer("truth", f"truth of {choice.id}: {_shows(gold, names)}", pictures.labels_uri(gold))
    pairs = zip(shown, scores, strict=True)
    masks = [_mask_layer(title, cell, miou, choice.id, gold, names) for (title, cell, _), miou in pairs]
    maps = [layer for step, folder in heats.items() if (layer := _heat_layer(step, folder, choice.id))]
    width, height = pictures.thumb_size(image.shape)
    why = f"{choice.rule} {choice.number}"
    return Figure(choice.id, why, width, height, pictures.photo_uri(image), (truth, *masks, *maps))


def _mask_layer(
    title: str, cell: StoredRecord, miou: float, id: str, gold: NDArray[np.uint8], names: Sequence[str]
) -> Layer:
    labels = read_labels(masks_of(cell) / f"{id}.png")
    if labels.shape != gold.shape:
        raise WsssError(f"mask {id} of {title} differs in size from the truth")
    wrong = pictures.wrong_pixels(gold, labels)
    share = 100 * wrong.sum() / max(1, int((gold != IGNORE).sum()))
    score = f"{miou:.0f} %"
    alt = f"{title} on {id}: {_shows(labels, names)}; mIoU {score}, {share:.0f} % of the pixels wrong"
    return Layer(title, alt, pictures.labels_uri(labels), pictures.wrong_uri(wrong), score)


def _heat_layer(step: str, folder: ArtifactFolder, id: str) -> Layer | None:
    if not folder.path(id, "maps").is_file():
        return None
    maps = folder.read(id, ["maps"]).maps
    title = f"maps of {step}"
    alt = f"{title} on {id}: the largest class map of each pixel, bright where it is high"
    return Layer(title, alt, pictures.heat_uri(maps), smooth=True) if maps is not None else None


def _shows(labels: NDArray[np.uint8], names: Sequence[str]) -> str:
    """The foreground classes of a label map, by name."""
    own = [names[k] for k in np.unique(labels).tolist() if 0 < k < len(names)]
    return ", ".join(own) or "background only"


def _heat_maps(section: Section, shown: Sequence[Shown]) -> dict[str, ArtifactFolder]:
    """The maps on disk of the steps behind the shown cells, by the step's name; shared ones once."""
    name = artifact_name(section.terms.split, section.terms.tags_at_evaluation)
    steps = dict.fromkeys((folder, step) for _, cell, _ in shown for step, folder in step_folders(cell))
    there = [(s, f) for f, s in steps if (f / "artifacts" / name / "maps").is_dir()][:2]
    titles = [s if [t for t, _ in there].count(s) == 1 else f"{s} {f.name[-8:]}" for s, f in there]
    return {t: ArtifactFolder(f / "artifacts" / name) for t, (_, f) in zip(titles, there, strict=True)}


def _legend(section: Section) -> tuple[tuple[str, str], ...]:
    palette = voc_palette()
    own = [(name, tuple(palette[k].tolist())) for k, name in enumerate(section.class_names) if k]
    return tuple((name, f"rgb{colour}") for name, colour in [*own, ("void or no label", VOID_COLOUR)])


def _note(section: Section, shown: Sequence[Shown], heats: Mapping[str, ArtifactFolder], each: int) -> str:
    rows = f"{len(shown)} of {len(section.lines)} rows: the first of the table that have masks on disk"
    maps = "" if heats else " No class maps of this split are on disk."
    return f"Seed {shown[0][1].record.identity.seed}, {rows}. {RULE_SENTENCE.format(each=each)}{maps}"
