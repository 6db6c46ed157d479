#!/usr/bin/env bash
# What three evaluators say of one pair of label maps in which a method abstains (255) and a class is missing.
#
# Seen with onedl-mmsegmentation 1.4.2, torchmetrics 1.9.0 and segmentation-models-pytorch 0.6.0 on Python 3.11:
# - IoUMetric (ignore_index=255) takes a predicted 255 for a miss, and a predicted 21 of 3 classes too: no word.
# - MulticlassJaccardIndex(ignore_index=255) does not see a predicted 255 when it checks its arguments, which it
#   does by default: it ends in "shape '[3, 3]' is invalid for input of size 259", which names no label.
# - iou_score scores a class that is in neither map 1.0, so that classes nobody has raise the macro mean.
# Exits with 1 where one of them no longer does so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
./env/bin/pip install --quiet --disable-pip-version-check torch==2.15.0 torchmetrics==1.9.0 numpy==2.4.6 \
  segmentation-models-pytorch==0.6.0 onedl-mmengine==0.10.9 prettytable==3.18.0 opencv-python-headless==5.0.0.93
./env/bin/pip install --quiet --disable-pip-version-check --no-deps onedl-mmsegmentation==1.4.2
cat > try.py <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from mmseg.evaluation.metrics.iou_metric import IoUMetric
from segmentation_models_pytorch.metrics import get_stats, iou_score
from torchmetrics.classification import MulticlassJaccardIndex

for name in ("torch", "torchmetrics", "segmentation-models-pytorch", "onedl-mmsegmentation"):
    print(name, version(name))
truth = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 255, 255]])
abstains = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 255, 255, 0]])  # class 2 is nowhere


def by_mmseg(said):
    metric = IoUMetric()
    metric.dataset_meta = {"classes": ["background", "cat", "dog"]}
    metric.process({}, [{"pred_sem_seg": {"data": said}, "gt_sem_seg": {"data": truth}}])
    return float(metric.compute_metrics(metric.results)["mIoU"])


def by_torchmetrics(said):
    try:
        return float(100 * MulticlassJaccardIndex(3, ignore_index=255, average="macro")(said, truth))
    except RuntimeError as error:
        return f"RuntimeError: {error}"


def by_smp(said):
    stats = get_stats(said, truth, mode="multiclass", num_classes=3, ignore_index=255)
    return [round(100 * v, 2) for v in (iou_score(*stats, reduction="macro").item(), *iou_score(*stats)[0].tolist())]


found = {
    "mmseg": by_mmseg(abstains),
    "mmseg, label 21 in place of 255": by_mmseg(torch.where(abstains == 255, 21, abstains)),
    "torchmetrics": by_torchmetrics(abstains),
    "torchmetrics, silent in void alone": by_torchmetrics(torch.where(truth == 1, 1, abstains)),
    "smp: macro, then each class": by_smp(abstains),
}
for name, value in found.items():
    print(f"{name}: {value}")
same = (
    found["mmseg"] == found["mmseg, label 21 in place of 255"] == 87.5  # of 100 and 75; class 2 left out
    and str(found["torchmetrics"]).startswith("RuntimeError: shape '[3, 3]' is invalid")
    and found["torchmetrics, silent in void alone"] == 100.0
    and found["smp: macro, then each class"] == [91.67, 100.0, 75.0, 100.0]
)
sys.exit(not same)
PYTHON
./env/bin/python try.py
