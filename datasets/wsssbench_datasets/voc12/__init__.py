"""The data set `voc12`."""

from wsssbench_datasets.voc12.dataset import Voc12

__all__ = ["Voc12"]
