"""Ranged reads of local files: every byte that is read is counted, and no file is ever mapped or held whole."""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from homolog.checkpoint.base import Meter
from homolog.errors import CheckpointNotFound, MalformedCheckpoint

__all__ = ["FilePool", "FileSource", "Source"]

_MOST_OPEN = 32
_HAS_PREAD = hasattr(os, "pread")
# Windows needs O_BINARY; O_NONBLOCK keeps a pipe that poses as a file from blocking the open.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class Source(Protocol):
    """Bytes that can be read by range."""

    @property
    def path(self) -> Path:
        """What errors name."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; ``MalformedCheckpoint`` where the source ends before."""


class FilePool:
    """Keeps the files used last open, and no more than a few: a model of 200 shards must not exhaust the descriptors."""

    def __init__(self, most_open: int = _MOST_OPEN) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._most_open = most_open
        self._lock = threading.Lock()

    def size(self, path: Path) -> int:
        """Bytes of a regular file."""
        with self._lock:
            return os.fstat(self._descriptor(path)).st_size

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only where the file ends."""
        parts: list[bytes] = []
        with self._lock:
            descriptor = self._descriptor(path)
            while length > 0:
                part = _read_at(descriptor, offset, length)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close every file; a later read opens it again."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _descriptor(self, path: Path) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            descriptor = os.open(path, _FLAGS)
        except (OSError, ValueError) as error:
            raise CheckpointNotFound(path, at="file", found=_reason(error), expected="a readable file") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise CheckpointNotFound(path, at="file", found="a pipe, device or folder", expected="a regular file")
        self._open[path] = descriptor
        if len(self._open) > self._most_open:
            os.close(self._open.popitem(last=False)[1])
        return descriptor


class FileSource:
    """One local file; ``name`` is what the meter's digest calls it, so that moving a folder does not change the digest."""

    def __init__(self, path: Path, pool: FilePool, meter: Meter) -> None:
        self._path = path
        self._pool = pool
        self._meter = meter
        self._size = meter.sizes[path] = pool.size(path)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._size

    def open_beside(self, name: str) -> FileSource:
        """Another file of the same folder, counted by the same meter; the caller has seen to it that it lies there."""
        return FileSource(self._path.parent / name, self._pool, self._meter)

    def read(self, offset: int, length: int) -> bytes:
        """Read one range and count it."""
        try:
            block = self._pool.read(self._path, offset, length)
        except OSError as error:
            found = f"a read error: {_reason(error)}"
            raise MalformedCheckpoint(
                self._path, at=f"byte {offset}", found=found, expected=f"{length} bytes"
            ) from error
        if len(block) != length:
            raise MalformedCheckpoint(
                self._path, at=f"byte {offset}", found=f"{len(block)} bytes before the end", expected=f"{length} bytes"
            )
        self._meter.record(self._path.name, offset, block)
        return block


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    if _HAS_PREAD:
        return os.pread(descriptor, length, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
