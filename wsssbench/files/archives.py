"""Zip archives of which nothing is unpacked beyond what they hold."""

from __future__ import annotations

import zipfile


def check_stored(archive: zipfile.ZipFile, size: int) -> None:
    """ValueError unless the members lie uncompressed in an archive of `size` bytes, once each, so that none
    can unpack to more than the file has: torch.save writes no other."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed members, which torch.save does not write")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members claim more bytes than it has")
