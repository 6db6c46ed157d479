"""What the evaluators of the field print as mIoU, for those who must compare with old tables.

Each function turns summed triples into what one family of evaluation scripts would print for them; where a
script stops with an error, the function raises, and where it prints NaN, the number is None with a reason.
Our own definition is `wsssbench.metrics.Iou`; its rules must not enter here. All are functions of the pooled
joint histogram of truth and prediction, so that nothing is lost by computing them from triples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import WsssError
from wsssbench.metrics import ConfusionMetric, Iou, confusion_matrix, mean, percent
from wsssbench.types import IGNORE, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY = 1e-10  # what the counters add to a union


@dataclass(frozen=True)
class FieldScore:
    """What a script prints, in %, and what it did that ours does not (empty where it did nothing of note)."""

    miou: float | None  # None where the script prints NaN; the note says why
    per_class: tuple[float | None, ...]  # C classes, background first; None where the script has NaN
    note: str = ""


def chainercv(counts: Counts, classes: int) -> FieldScore:
    """chainercv's eval_semantic_segmentation, called bare, as by IRN's and ReCAM's CAM evaluation.

    Truth 255 is -1 there and dropped. Unlike ours: the matrix grows to the largest label, so that a predicted
    255 makes a class 255 of its own whose IoU of 0 enters the mean (and stays a false negative of the truth);
    a class that is predicted but has no truth enters the mean with 0. Classes with neither are NaN, skipped.
    """
    matrix = confusion_matrix(counts, classes)
    iou = _iou_or_nan(matrix[:, :-1], matrix.sum(1))
    if not matrix[:, -1].any():
        return FieldScore(mean(iou), tuple(iou))
    note = "a class 255 with IoU 0 is in the mean: the prediction abstains"
    return FieldScore(mean([*iou, 0.0]), tuple(iou), note)


def irn(counts: Counts, classes: int) -> FieldScore:
    """IRN's eval_sem_seg: a predicted 255 becomes background, then chainercv cut to the C classes.

    Unlike ours: abstained pixels count as predictions of background, and a class that is predicted but
    has no truth enters the mean with 0.
    """
    matrix = confusion_matrix(counts, classes)
    said = matrix[:, :-1].copy()
    said[:, 0] += matrix[:, -1]
    iou = _iou_or_nan(said, matrix.sum(1))
    return FieldScore(mean(iou), tuple(iou), "255 is background" if matrix[:, -1].any() else "")


def seam_counters(counts: Counts, classes: int) -> FieldScore:
    """The counters TP, T and P of SEAM, MCTformer, PuzzleCAM and PNOC (and of those who evaluate PSA so).

    Truth 255 is dropped; a predicted 255 is a false negative and no false positive, as in ours. IoU = TP / (T
    + P - TP + 1e-10), so that a class without truth, predicted or not, has IoU 0, and the mean runs over all
    C classes: lower than ours wherever a class is missing. SEAM and MCTformer count in 32 bits and wrap
    silently beyond 2**31 - 1 pixels of one class (background of COCO train); so does this, and it says so.
    """
    matrix = confusion_matrix(counts, classes)
    exact = (np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0))
    tp, t, p = (column.astype(np.int32).astype(np.int64) for column in exact)  # wraps
    iou = [100.0 * int(h) / (int(a) + int(b) - int(h) + TINY) for h, a, b in zip(tp, t, p, strict=True)]
    lost = [k for k in range(classes + 1) if any(int(column[k]) >= 2**31 for column in exact)]
    missing = int((exact[1] == 0).sum())
    notes = [f"{missing} classes without truth are in the mean with 0"] if missing else []
    if lost:
        notes.append(f"32-bit counters have wrapped for classes {', '.join(map(str, lost))}")
    return FieldScore(float(np.mean(iou)), tuple(iou), "; ".join(notes))


def fast_hist(counts: Counts, classes: int) -> FieldScore:
    """`_fast_hist` of deeplab-pytorch, CLIP-ES, AFA, ToCo and WeCLIP: bincount of C * truth + prediction.

    Truth outside 0..K is masked, the prediction is not. The mean runs over the classes with truth, as ours:
    for labels without 255 both agree. A predicted 255 at truth g gets the index C g + 255, the cell of row
    g + 255 // C and column 255 % C (for C = 21: row g + 12, column 3), and is counted there as if that
    were truth and prediction; beyond the last row the reshape fails with ValueError. WsssError then.
    """
    size = classes + 1
    matrix = confusion_matrix(counts, classes)
    histogram = matrix[:, :-1].copy()
    rows, column = np.flatnonzero(matrix[:, -1]), IGNORE % size
    landing = rows + IGNORE // size
    if (landing >= size).any():
        what = f"_fast_hist fails: label 255 predicted where the truth is {rows[landing >= size].min()}"
        hint = "judge labels without 255, or by `pseudo_scores`, which leaves such pixels out"
        raise WsssError(f"{what} (cannot reshape array)", where="compatible", hint=hint)
    histogram[landing, column] += matrix[rows, -1]
    moved = int(matrix[:, -1].sum())
    note = f"{moved} pixels predicted 255 are counted in rows and columns of other classes" if moved else ""
    return _with_truth_only(histogram, note)


def pseudo_scores(counts: Counts, classes: int) -> FieldScore:
    """`pseudo_scores` of AFA, ToCo and WeCLIP: pixels predicted 255 are taken out of the truth too.

    Unlike ours, where abstaining is a false negative: to abstain costs nothing, and the number is the IoU of
    the labelled pixels alone (see `wsssbench.scores.sparse`). The mean runs over classes with labelled truth.
    """
    matrix = confusion_matrix(counts, classes)
    left = percent(int(matrix[:, -1].sum()), int(matrix.sum()))
    return _with_truth_only(matrix[:, :-1], f"{left:.1f} % of the truth is left out" if left else "")


def voc_devkit(counts: Counts, classes: int) -> FieldScore:
    """VOCevalseg of the VOC devkit (2012).

    Truth 255 is dropped. Unlike ours: it stops at a picture with a label above K anywhere, 255 included, even
    where the truth is void; a class that is predicted but has no truth enters the mean with 0; and a class
    with neither is 0 / 0, which makes the mean NaN: it takes all C classes for granted.
    """
    silent = int(counts["pixels"][counts["predicted"] == IGNORE].sum())
    if silent:
        what = f"VOCevalseg stops: out of range value 255 in {silent} pixels of the result pictures"
        hint = "label every pixel, also where the truth is void"
        raise WsssError(what, where="compatible", hint=hint)
    matrix = confusion_matrix(counts, classes)
    iou = _iou_or_nan(matrix[:, :-1], matrix.sum(1))
    nowhere = [str(k) for k, value in enumerate(iou) if value is None]
    if nowhere:
        note = f"NaN: labels {', '.join(nowhere)} are neither in the truth nor predicted (0 / 0)"
        return FieldScore(None, tuple(iou), note)
    return FieldScore(mean(iou), tuple(iou), _said_without_truth(matrix))


def mmseg(counts: Counts, classes: int) -> FieldScore:
    """IoUMetric of MMSegmentation with its defaults (ignore_index=255, nan_to_num=None).

    Truth 255 is dropped; a predicted 255 silently falls out of its histograms: a false negative and no
    false positive, as in ours. Unlike ours: a class that is predicted but has no truth enters the mean with
    0. Classes with neither are NaN, skipped. It sums in float32 and rounds to two decimals; this does not.
    """
    matrix = confusion_matrix(counts, classes)
    iou = _iou_or_nan(matrix[:, :-1], matrix.sum(1))
    silent = int(matrix[:, -1].sum())
    notes = [_said_without_truth(matrix), f"{silent} pixels predicted 255 are misses" if silent else ""]
    return FieldScore(mean(iou), tuple(iou), "; ".join(filter(None, notes)))


def _said_without_truth(matrix: NDArray[np.int64]) -> str:
    """A note on the classes that are predicted and have no truth, or nothing."""
    only_said = [str(k) for k in np.flatnonzero((matrix.sum(1) == 0) & (matrix[:, :-1].sum(0) > 0))]
    return (
        f"labels {', '.join(only_said)}, predicted without truth, are in the mean with 0" if only_said else ""
    )


def _iou_or_nan(said: NDArray[np.int64], truth: NDArray[np.int64]) -> list[float | None]:
    """IoU in % of each class; None (NaN in the scripts) only where it is neither in truth nor predicted."""
    hit = np.diagonal(said)
    return [percent(h, u) for h, u in zip(hit, truth + said.sum(0) - hit, strict=True)]


def _with_truth_only(histogram: NDArray[np.int64], note: str) -> FieldScore:
    """The mean over rows that are not empty."""
    truth = histogram.sum(1)
    iou = _iou_or_nan(histogram, truth)
    return FieldScore(mean(v for v, t in zip(iou, truth, strict=True) if t), tuple(iou), note)


EVALUATORS: Mapping[str, Callable[[Counts, int], FieldScore]] = {
    "chainercv": chainercv,
    "irn": irn,
    "seam_counters": seam_counters,
    "fast_hist": fast_hist,
    "pseudo_scores": pseudo_scores,
    "voc-devkit": voc_devkit,
    "mmseg": mmseg,
}


class Compatible(ConfusionMetric):
    """The mIoU that each of the field's evaluators would print for the same labels, and how far it is off.

    For reading beside old tables, never for ranking. All take IoU_k = TP / (TP + FP + FN) and differ in what
    255 in a prediction is and which classes the mean runs over: chainercv (bare, as IRN's and ReCAM's CAM
    evaluation calls it) has a class 255, irn (eval_sem_seg) makes it background, seam_counters (SEAM,
    MCTformer, PuzzleCAM) give classes without truth 0, fast_hist (deeplab-pytorch, CLIP-ES, AFA, ToCo,
    WeCLIP) counts it for another class, pseudo_scores (AFA, ToCo, WeCLIP) leave it out of the truth,
    voc-devkit (VOCevalseg) stops at it, and has NaN as soon as a class is nowhere; mmseg (IoUMetric) counts a
    class that is predicted without truth as 0. Source: the public code of these repositories; the functions
    of `wsssbench.scores.compatible` say it in full.
    """

    name = "compatible"

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """ours (miou of `Iou`), and for each evaluator NAME: NAME_miou, NAME_difference (theirs - ours, in
        points), NAME_per_class, all None where it stops with an error, and NAME_note (what it did, or why).
        Where it prints NaN, NAME_miou and NAME_difference are None and NAME_per_class has None for the class.
        """
        ours: float | None = Iou().score(counts, classes)["miou"]
        scores: dict[str, Any] = {"ours": ours}
        for name, evaluator in EVALUATORS.items():
            theirs = _tried(evaluator, counts, classes)
            defined = theirs.miou is not None and ours is not None
            scores[f"{name}_miou"] = theirs.miou
            scores[f"{name}_difference"] = theirs.miou - ours if defined else None  # type: ignore[operator]
            scores[f"{name}_per_class"] = list(theirs.per_class) or None
            scores[f"{name}_note"] = theirs.note
        return scores


def _tried(evaluator: Callable[[Counts, int], FieldScore], counts: Counts, classes: int) -> FieldScore:
    """What it prints; where it stops with an error, a score without numbers whose note is the reason."""
    try:
        return evaluator(counts, classes)
    except WsssError as error:
        return FieldScore(None, (), error.what)
