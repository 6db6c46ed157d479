"""Foreign results: what other repositories write for each image, read without executing any of it and without
torch, and files that they and the VOC server read in turn."""

from wsssbench.dumps.exporters import to_psa_dict, write_psa_dict
from wsssbench.dumps.formats import Dump, find_dump, read_dump
from wsssbench.dumps.registry import DumpFormat, list_formats
from wsssbench.dumps.voc_server import verify_voc_archive, write_voc_archive

__all__ = [
    "Dump",
    "DumpFormat",
    "find_dump",
    "list_formats",
    "read_dump",
    "to_psa_dict",
    "verify_voc_archive",
    "write_psa_dict",
    "write_voc_archive",
]
