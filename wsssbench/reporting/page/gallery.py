"""The pictures of one table: image, truth, each method's mask with its wrong pixels, and heat maps.

Of one seed, of a bounded number of methods and images, chosen by `wsssbench.reporting.page.choice`. The data
set is opened by the caller; what is not on disk is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from wsssbench.artifacts import ArtifactFolder, artifact_name
from wsssbench.errors import WsssError
from wsssbench.identity import Record
from wsssbench.masks import VOID_COLOUR, read_labels, voc_palette
from wsssbench.reporting.page import pictures
from wsssbench.reporting.page.choice import EACH, RULE_SENTENCE, Chosen, choose
from wsssbench.reporting.page.sections import Section, counts_of, masks_of
from wsssbench.reporting.page.training import step_folders
from wsssbench.scores.images import image_iou
from wsssbench.types import IGNORE, Dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import CountsTable

METHODS = 6  # whose masks are shown
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


@dataclass(frozen=True)
class _Shown:
    """One method in the gallery."""

    title: str
    masks: Path
    table: CountsTable
    scores: NDArray[np.float64]  # (n,) mIoU in % of each image of `table`, NaN without truth

    def score(self, id: str) -> float:
        return float(self.scores[self.table.ids.index(id)])


def gallery_of(section: Section, open_data: Opener, each: int = EACH) -> Gallery:
    """The gallery of a table; without figures, and with a word why, where something lacks."""
    shown = _methods(section)
    if not shown:
        return Gallery(note="No gallery: no row has both masks and counts on disk.")
    try:
        data = open_data(_first_record(section))
        chosen = _chosen(shown, each)
        heats = _heat_maps(section)
        figures = tuple(_figure(data, section, choice, shown, heats) for choice in chosen)
    except WsssError as error:
        return Gallery(note=f"No gallery: the data set cannot be shown ({error.what}).")
    return Gallery(figures, _legend(section), _note(section, shown, heats, each))


def _first_record(section: Section) -> Record:
    seed = section.seed
    cells = [cell for line in section.lines for cell in line.cells if cell.record.identity.seed == seed]
    return cells[0].record


def _methods(section: Section) -> list[_Shown]:
    """The first rows with masks and counts of the section's seed."""
    found: list[_Shown] = []
    for line in section.lines:
        cell = None if section.seed is None else line.cell(section.seed)
        masks, table = (masks_of(cell), counts_of(cell)) if cell else (None, None)
        if masks and table and len(found) < METHODS:
            found.append(_Shown(line.title, masks, table, _image_miou(table, len(section.terms.classes))))
    return found


def _image_miou(table: CountsTable, classes: int) -> NDArray[np.float64]:
    """(n,) mean IoU in % over the classes that each image's truth shows, NaN without any."""
    iou, present = image_iou(table, classes)
    number = present.sum(1)
    return np.where(number > 0, (iou * present).sum(1) / np.maximum(number, 1), np.nan)


def _chosen(shown: Sequence[_Shown], each: int) -> list[Chosen]:
    """Among the images that every method was judged on."""
    common = set.intersection(*(set(method.table.ids) for method in shown))
    ids = [id for id in shown[0].table.ids if id in common]
    places = [{id: n for n, id in enumerate(method.table.ids)} for method in shown]
    scores = [m.scores[[place[id] for id in ids]] for m, place in zip(shown, places, strict=True)]
    return choose(ids, np.array(scores), each)


# ------------------------------------------------------------------------------------------------ pictures


def _figure(
    data: Dataset,
    section: Section,
    choice: Chosen,
    shown: Sequence[_Shown],
    heats: Mapping[str, ArtifactFolder],
) -> Figure:
    image, gold = data.image(choice.id), data.mask(choice.id)
    names = section.class_names
    truth = Layer("truth", f"truth of {choice.id}: {_shows(gold, names)}", pictures.labels_uri(gold))
    masks = [_mask_layer(method, choice.id, gold, names) for method in shown]
    maps = [layer for step, folder in heats.items() if (layer := _heat_layer(step, folder, choice.id))]
    width, height = pictures.thumb_size(image.shape)
    why = f"{choice.rule} {choice.number}"
    return Figure(choice.id, why, width, height, pictures.photo_uri(image), (truth, *masks, *maps))


def _mask_layer(method: _Shown, id: str, gold: NDArray[np.uint8], names: Sequence[str]) -> Layer:
    labels = read_labels(method.masks / f"{id}.png")
    if labels.shape != gold.shape:
        raise WsssError(f"mask {id} of {method.title} has another size than the truth")
    wrong = pictures.wrong_pixels(gold, labels)
    share = 100 * wrong.sum() / max(1, int((gold != IGNORE).sum()))
    score = f"{method.score(id):.0f} %"
    alt = f"{method.title} on {id}: {_shows(labels, names)}; mIoU {score}, {share:.0f} % of the pixels wrong"
    return Layer(method.title, alt, pictures.labels_uri(labels), pictures.wrong_uri(wrong), score)


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


def _heat_maps(section: Section) -> dict[str, ArtifactFolder]:
    """The maps on disk of the steps behind the section's seed, by the step's name; shared ones once."""
    name = artifact_name(section.terms.split, section.terms.tags_at_evaluation)
    cells = [line.cell(section.seed) for line in section.lines if section.seed is not None]
    steps = dict.fromkeys((folder, step) for cell in cells if cell for step, folder in step_folders(cell))
    there = [(s, f) for f, s in steps if (f / "artifacts" / name / "maps").is_dir()][:2]
    titles = [s if [t for t, _ in there].count(s) == 1 else f"{s} {f.name[-8:]}" for s, f in there]
    return {t: ArtifactFolder(f / "artifacts" / name) for t, (_, f) in zip(titles, there, strict=True)}


def _legend(section: Section) -> tuple[tuple[str, str], ...]:
    palette = voc_palette()
    own = [(name, tuple(palette[k].tolist())) for k, name in enumerate(section.class_names) if k]
    return tuple((name, f"rgb{colour}") for name, colour in [*own, ("void or no label", VOID_COLOUR)])


def _note(section: Section, shown: Sequence[_Shown], heats: Mapping[str, ArtifactFolder], each: int) -> str:
    rows = f"{len(shown)} of {len(section.lines)} rows: the first of the table that have masks on disk"
    maps = "" if heats else " No class maps of this split are on disk."
    return f"Seed {section.seed}, {rows}. {RULE_SENTENCE.format(each=each)}{maps}"
