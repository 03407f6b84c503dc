"""Reads little-endian values one after the other, in chunks, never beyond the file and never more than a header may hold."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint

__all__ = ["Cursor"]

_CHUNK = 1 << 18
_LARGEST_HEADER = 64 << 20
"""Bytes before the tensors. The largest vocabularies come to some 20 MB at most."""
_LONGEST_STRING = 4 << 20
_MOST_STRINGS = 2_000_000
"""In all arrays together; a vocabulary of 262,144 with half a million merges is well below."""
_LENGTH = struct.Struct("<Q")


class Cursor:
    """A place in a file that moves forward."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._limit = min(source.size, _LARGEST_HEADER)
        self._chunk = b""
        self._start = 0
        self._next = 0
        self._strings = 0
        self.what = "header"
        """What is being read, for errors."""

    @property
    def place(self) -> int:
        """Bytes from the start of the file."""
        return self._start + self._next

    @property
    def left(self) -> int:
        """Bytes that a header may still have."""
        return self._limit - self.place

    def fail(self, found: str, expected: str) -> MalformedCheckpoint:
        """An error at this place."""
        return MalformedCheckpoint(
            self._source.path, at=f"{self.what}, byte {self.place}", found=found, expected=expected
        )

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes. Raises `MalformedCheckpoint` where the file, or what a header may hold, ends before."""
        if self._next + length > len(self._chunk):
            self._refill(length)
        start = self._next
        self._next = start + length
        return self._chunk[start : self._next]

    def number(self, code: struct.Struct) -> int | float:
        """One number of a kind."""
        value: int | float = code.unpack(self.take(code.size))[0]
        return value

    def count(self, what: str, most: int, least_bytes: int) -> int:
        """A count of ``what``, each of ``least_bytes`` at least."""
        count = _LENGTH.unpack(self.take(8))[0]
        fit = self.left // least_bytes
        if count > min(most, fit):
            limit = f"at most {most}" if fit > most else f"at most the {fit} that the rest of the header could hold"
            raise self.fail(f"{count} {what}", limit)
        return int(count)

    def string(self, longest: int = _LONGEST_STRING) -> bytes:
        """A string behind its length, as stored."""
        length = _LENGTH.unpack(self.take(8))[0]
        if length > min(longest, self.left):
            raise self.fail(f"a string of {length} bytes", f"at most {min(longest, self.left)}")
        return self.take(length)

    def strings(self, count: int) -> list[bytes]:
        """``count`` strings, as stored."""
        self._strings += count
        if self._strings > _MOST_STRINGS:
            raise self.fail(f"{self._strings} strings so far", f"at most {_MOST_STRINGS}")
        return list(self._each(count))

    def _each(self, count: int) -> Iterator[bytes]:
        # the vocabulary is most of a header: what a call of `string` costs is paid only where a chunk ends
        chunk, place, end = self._chunk, self._next, len(self._chunk)
        for _ in range(count):
            first = place + 8
            if first <= end:
                last = first + _LENGTH.unpack_from(chunk, place)[0]
                if last <= end:
                    yield chunk[first:last]
                    place = last
                    continue
            self._next = place
            yield self.string()
            chunk, place, end = self._chunk, self._next, len(self._chunk)
        self._next = place

    def _refill(self, length: int) -> None:
        if length > self.left:
            found = f"{self.left} bytes before the end of the " + (
                "file" if self._limit == self._source.size else f"{_LARGEST_HEADER} bytes that a header may have"
            )
            raise self.fail(found, f"{length} bytes")
        rest = self._chunk[self._next :]
        self._start = self.place
        wanted = min(max(length - len(rest), _CHUNK), self.left - len(rest))
        self._chunk = rest + self._source.read(self._start + len(rest), wanted)
        self._next = 0
