"""The data set `coco14`."""

from wsssbench_datasets.coco14.dataset import Coco14

__all__ = ["Coco14"]
