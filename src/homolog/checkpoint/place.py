"""Where the files of one model lie and how they are opened: the same questions for a folder of this machine and for an address."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from homolog.checkpoint.base import Meter
from homolog.checkpoint.shards import check_inside
from homolog.checkpoint.source import FilePool, FileSource, Source
from homolog.errors import IncompleteCheckpoint

__all__ = ["FolderPlace", "Place"]


class Place(Protocol):
    """A model's files."""

    path: Path
    """What the user named."""
    home: Path
    """Where the weight files lie."""
    folder: Path
    """The folder, of this machine, with the side files (config, tokenizer)."""
    pool: FilePool
    meter: Meter
    notes: tuple[str, ...]

    def source(self, file: Path) -> Source:
        """The bytes of one file of ``home``."""

    def check_shards(self, files: Sequence[Path], index: Path) -> None:
        """Raise ``IncompleteCheckpoint`` where a file that the index names is not there, ``UnsafeCheckpoint`` where it leads elsewhere."""

    def expect(self, files: Sequence[Path]) -> None:
        """Prepare for all these files to be opened, one after the other."""


class FolderPlace:
    """A folder of this machine."""

    def __init__(self, path: Path, home: Path, meter: Meter, *, notes: tuple[str, ...] = ()) -> None:
        self.path = path
        self.home = home
        self.folder = home
        self.pool = FilePool()
        self.meter = meter
        self.notes = notes

    def source(self, file: Path) -> Source:
        """The file, mapped by nobody and read by range."""
        return FileSource(file, self.pool, self.meter)

    def check_shards(self, files: Sequence[Path], index: Path) -> None:
        """See `Place.check_shards`."""
        for file in files:
            if not os.path.lexists(file):
                found = f"no file {file.name} in the folder"
                raise IncompleteCheckpoint(index, at="weight_map", found=found, expected="every shard there")
            check_inside(self.home, file)

    def expect(self, files: Sequence[Path]) -> None:
        """Nothing: files of this machine are opened at once."""
