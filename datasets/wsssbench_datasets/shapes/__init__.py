"""The data set `shapes`."""

from wsssbench_datasets.shapes.dataset import Shapes

__all__ = ["Shapes"]
