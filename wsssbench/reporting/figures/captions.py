"""What stands below each figure: the sentences that a picture itself leaves out."""

from __future__ import annotations

CAPTIONS = {
    "miou": (
        "mIoU of each method, a panel for each table of equal terms. Stroke: mean over seeds; bar: "
        "interval of 95 % for the mean (Student's); grey dots: seeds. A diamond marks a row that is not "
        "ranked, as it learned from masks."
    ),
    "classes": (
        "IoU of each class, mean over seeds, with the interval of 95 % for it (Student's), for the first "
        "eight methods of the table."
    ),
    "thresholds": (
        "mIoU of the maps at each background threshold: the mean over seeds (bold) and each seed (thin). "
        "The ring is the threshold that the row was judged with. The top of a curve needs the judged "
        "masks to be found: no fair result."
    ),
    "coverage": (
        "Precision against coverage of labels that may abstain, means over seeds. Lines join rows that "
        "differ in one option alone; its values stand at the marks."
    ),
    "ladder": (
        "From mIoU (grey) to 100 %: what is gained where one kind of error after the other is repaired, "
        "mean over seeds. The steps depend on the order, which is that of the legend."
    ),
    "reliability": (
        "Accuracy against confidence in 15 bins, means over seeds; on the dashed line a method is as sure "
        "as it is right. Below: the share of pixels in each bin."
    ),
    "training": (
        "Losses against training steps, running means over a twentieth of the training: the median "
        "over seeds (bold) and, of up to three methods, each seed (thin). The heights of the first "
        "steps are cut off."
    ),
}
