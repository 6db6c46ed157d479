"""Which folders of steps a run that makes everything again (`--rerun`) has made again already: it may do so
once. Where several processes make one run together, they note it on disk. What is fitted is not known."""

from __future__ import annotations

from pathlib import Path

from wsssbench.files.atomic import atomic_write_text


class Renewed(set[Path]):
    """Folders that were made again. With `notes`, a folder, also those that other processes have noted there.

    Ask and add while holding the folder that it is about: two processes must not both find it missing.
    """

    def __init__(self, notes: Path | None = None) -> None:
        super().__init__()
        self.notes = notes

    def __contains__(self, folder: object) -> bool:
        if super().__contains__(folder) or self.notes is None or not isinstance(folder, Path):
            return super().__contains__(folder)
        return self._note(folder).exists()

    def add(self, folder: Path) -> None:
        super().add(folder)
        if self.notes is not None:
            atomic_write_text(self._note(folder), "")

    def _note(self, folder: Path) -> Path:
        """Folders of steps are runs/<data set>/steps/<step>-<key8>; what is in one counts by itself."""
        assert self.notes is not None
        return self.notes / "--".join(folder.parts[-4:])
