"""The data set `folder`."""

from wsssbench_datasets.folder.dataset import Folder

__all__ = ["Folder"]
