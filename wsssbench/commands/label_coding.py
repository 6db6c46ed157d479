"""How the label pictures that `wsssbench score` reads are coded: by class numbers, or as the data set's masks
on disk are (`palette` or [labels] of a dataset.toml; all classes, where some are chosen). Which of the two
holds is the user's to say; where what was found fits the masks' coding, an error or a note proposes it.

A data set takes part by `read_mask(path)`, the (H, W) labels of any file that is coded as its masks are, or
BadData, and by `coded`, what masks hold where it is not class numbers: other "numbers", or "colours".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData, WsssError
from wsssbench.types import IGNORE, Dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

CLASSES, TRUTH = "classes", "truth"
CODINGS = (CLASSES, TRUTH)
ASK_TRUTH = "if these files are coded as the masks of the data set are: --coding truth"


def truth_reader(dataset: Dataset) -> Callable[[Path], Mask]:
    """Reads a file as the masks of the data set are read; WsssError where it does not say how that is."""
    if type(dataset).read_mask is Dataset.read_mask:
        what = f"{dataset.card.name} does not say how masks on disk are coded (it has no read_mask)"
        raise WsssError(what, where="--coding truth", hint="leave it out: files hold class numbers")
    return dataset.read_mask


@contextmanager
def proposing_truth(dataset: Dataset, coding: str | None) -> Iterator[None]:
    """Adds the next step to an error about a file that the data set's own coding reads."""
    try:
        yield
    except BadData as error:
        said = coding is not None or "--coding" in error.hint
        if not said and _by_truth(dataset, Path(error.where)) is not None:
            raise BadData(error.what, where=error.where, hint=ASK_TRUTH) from error
        raise


def check_meaning(dataset: Dataset, labels: Mask, path: Path) -> Mask:
    """`labels`; BadData where the colours of the picture at `path` mean others in the data set's masks."""
    if dataset.coded != "colours":
        return labels
    truth = _by_truth(dataset, path)
    if truth is not None and not np.array_equal(truth, labels):
        what = "this picture means one thing by class numbers, another by the colours of the data set"
        hint = f"say which holds: --coding {CLASSES} or --coding {TRUTH}"
        raise BadData(what, where=path, hint=hint)
    return labels


def coding_note(dataset: Dataset, coding: str | None, predicted: NDArray[np.int64]) -> str:
    """What to say of files that were read as class numbers, where nobody has said that they are; else "".

    `predicted` are the labels that occur.
    """
    found, coded = set(predicted.tolist()) - {0}, dataset.coded
    if coding is not None or not found:
        return ""
    if found == {IGNORE}:
        what = f"the only value beside 0 in these files is {IGNORE}, which says no class"
        return f"warning: {what}; " + (ASK_TRUTH if coded else "classes are numbers from 1")
    if coded == "numbers":
        numbers = f"these files were read as class numbers 0..{len(dataset.card.class_names)}"
        return f"note: {numbers}, masks on disk hold others; {ASK_TRUTH}, else: --coding {CLASSES}"
    return ""


def _by_truth(dataset: Dataset, path: Path) -> Mask | None:
    """What the data set's own coding reads in a file; None where it has none, or the file does not fit."""
    if not dataset.coded or not path.is_file():
        return None
    try:
        return dataset.read_mask(path)
    except BadData:
        return None
