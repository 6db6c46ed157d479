"""wsssbench: one protocol for weakly supervised semantic segmentation, from image tags to a table."""

__version__ = "0.1.0"
