"""What was fetched, kept on disk: ranges of remote files, each under the identity (etag) of the file that it was cut from.

A range is one file, named by where it begins and ends, that ends in a digest of its content. It is written under another name and moved
into place, so that two processes never see half of it, and a killed one leaves nothing that a later one would take for whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import platformdirs

__all__ = ["BlockCache", "FileBlocks", "default_folder", "left_behind"]

_DIGEST = 16
_NAME = re.compile(r"([0-9a-f]{12})-([0-9a-f]{12})")
_TEMPORARY = re.compile(r"\.(\d+)-\d+")
_LIMIT = 10 * 10**9
_DAY = 86_400
_SWEPT = 0.9
"""Share of the limit that is kept when the cache is swept."""


def default_folder() -> Path:
    """The user's cache folder; ``HOMOLOG_CACHE`` names another."""
    chosen = os.environ.get("HOMOLOG_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("homolog")


class BlockCache:
    """A folder of ranges and of side files, of bounded size: what was used longest ago goes first."""

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self._folder = folder / "remote"
        self._limit = limit
        self._written = 0
        self._serial = 0
        self._size: int | None = None
        self._opened: dict[str, FileBlocks] = {}

    def blocks(self, identity: str) -> FileBlocks:
        """The ranges kept of the file that ``identity`` tells from all others, its older versions included."""
        key = hashlib.sha256(identity.encode()).hexdigest()[:40]
        if key not in self._opened:
            self._opened[key] = FileBlocks(self, self._folder / "blocks" / key)
        return self._opened[key]

    def read_document(self, key: str) -> bytes | None:
        """A small document kept under ``key``."""
        try:
            return self._document(key).read_bytes()
        except OSError:
            return None

    def write_document(self, key: str, text: bytes) -> None:
        """Keep a small document under ``key``, in place of an older one."""
        self.write(self._document(key), text)

    def side_folder(self, identity: str) -> Path:
        """The folder for the small files (config, tokenizer) of one version of one model."""
        return self._folder / "sides" / hashlib.sha256(identity.encode()).hexdigest()[:40]

    def write(self, path: Path, *parts: bytes) -> None:
        """Write a file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._serial += 1
        partial = path.parent / f".{os.getpid()}-{self._serial}"
        try:
            with partial.open("wb") as file:
                file.writelines(parts)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._written += sum(map(len, parts))
        if self._size is None or self._size + self._written > self._limit:
            self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes left behind, and what was used longest ago until the rest fits."""
        found: list[tuple[float, int, Path]] = []
        for path in self._files():
            with contextlib.suppress(OSError):  # another process may sweep too
                match, status = _TEMPORARY.fullmatch(path.name), path.stat()
                if match is None:
                    found.append((status.st_mtime, status.st_size, path))
                elif left_behind(int(match[1]), status.st_mtime):
                    path.unlink()
        self._written = 0
        self._size = sum(size for _, size, _ in found)
        if self._size <= self._limit:
            return
        for _, size, path in sorted(found):
            if self._size <= _SWEPT * self._limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                self._size -= size

    def _document(self, key: str) -> Path:
        return self._folder / "listings" / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"

    def _files(self) -> Iterator[Path]:
        for kind in ("blocks", "sides"):
            for folder, _, names in os.walk(self._folder / kind):
                yield from (Path(folder, name) for name in names)


class FileBlocks:
    """The ranges kept of one file."""

    def __init__(self, cache: BlockCache, folder: Path) -> None:
        self._cache = cache
        self._folder = folder
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._sound: set[tuple[int, int]] = set()
        with contextlib.suppress(OSError):
            spans = [(int(m[1], 16), int(m[2], 16)) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
            for start, stop in sorted(spans):
                self._insert(start, stop)

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of a range that are not kept, in order."""
        gaps = []
        place = max(0, bisect_right(self._starts, start) - 1)
        while start < stop and place < len(self._starts):
            if self._starts[place] >= stop:
                break
            if self._starts[place] > start:
                gaps.append((start, self._starts[place]))
            start = max(start, self._stops[place])
            place += 1
        return [*gaps, (start, stop)] if start < stop else gaps

    def add(self, start: int, block: bytes) -> None:
        """Keep one range that was missing."""
        digest = hashlib.blake2b(block, digest_size=_DIGEST).digest()
        self._cache.write(self._path(start, start + len(block)), block, digest)
        self._insert(start, start + len(block))
        self._sound.add((start, start + len(block)))

    def read(self, start: int, stop: int) -> bytes | None:
        """One range out of those kept; ``None`` if a part is missing, damaged, or was removed meanwhile."""
        parts = []
        place = max(0, bisect_right(self._starts, start) - 1)
        while start < stop:
            if place >= len(self._starts) or not self._starts[place] <= start < self._stops[place]:
                return None
            end = min(stop, self._stops[place])
            part = self._cut(place, start, end)
            if part is None:
                del self._starts[place], self._stops[place]
                return None
            parts.append(part)
            start = end
            place += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _cut(self, place: int, start: int, stop: int) -> bytes | None:
        first, last = self._starts[place], self._stops[place]
        path = self._path(first, last)
        try:
            with path.open("rb") as file:
                if (first, last) in self._sound:
                    file.seek(start - first)
                    part = file.read(stop - start)
                    return part if len(part) == stop - start else None
                whole = file.read(last - first + _DIGEST + 1)
            os.utime(path)
        except OSError:
            return None
        block = whole[: last - first]
        if hashlib.blake2b(block, digest_size=_DIGEST).digest() != whole[last - first :]:
            path.unlink(missing_ok=True)
            return None
        self._sound.add((first, last))
        return block[start - first : stop - first]

    def _insert(self, start: int, stop: int) -> None:
        """One process fetches only what it lacks, but two may fetch parts of each other's: a range inside another is not needed."""
        place = bisect_right(self._starts, start)
        if place and self._stops[place - 1] >= stop:
            return
        if place and self._starts[place - 1] == start:
            place -= 1
        last = place
        while last < len(self._stops) and self._stops[last] <= stop:
            last += 1
        self._starts[place:last] = [start]
        self._stops[place:last] = [stop]

    def _path(self, start: int, stop: int) -> Path:
        return self._folder / f"{start:012x}-{stop:012x}"


def left_behind(process: int, modified: float) -> bool:
    """Whether nobody will finish a file: its writer is gone, or (where asking would end it, as on Windows) it is a day old."""
    if os.name != "posix":
        return time.time() - modified > _DAY
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is another user's
    return False
