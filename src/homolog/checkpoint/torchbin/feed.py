"""The bytes of a pickle, fetched in chunks: the old layout does not say how long a pickle is."""

from __future__ import annotations

from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint

__all__ = ["MOST_OPCODES", "Feed"]

MOST_OPCODES = 300_000
"""In all pickles of one file together; a tensor takes about 30."""

_LONGEST_LINE = 1000
_CHUNK = 1 << 16


class Feed:
    """The bytes of a pickle, fetched in chunks as the machine asks for them, up to a limit."""

    def __init__(self, source: Source, start: int, limit: int) -> None:
        self.source = source
        self.opcodes_left = MOST_OPCODES
        self._end = min(start + limit, source.size)
        self._buffer = b""
        self._base = start
        self._place = 0

    @classmethod
    def of_bytes(cls, pickle: bytes, source: Source) -> Feed:
        """A pickle that is at hand already; positions count from its first byte."""
        feed = cls(source, 0, 0)
        feed._buffer = pickle
        return feed

    @property
    def position(self) -> int:
        """Byte of the source that comes next."""
        return self._base + self._place

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if len(self._buffer) - self._place < count:
            self._fetch(count)
        part = self._buffer[self._place : self._place + count]
        self._place += count
        return part

    def line(self) -> bytes:
        """Up to the next line feed, without it."""
        while True:
            end = self._buffer.find(b"\n", self._place, self._place + _LONGEST_LINE)
            if end >= 0:
                return self.take(end - self._place + 1)[:-1]
            have = len(self._buffer) - self._place
            if have >= _LONGEST_LINE:
                raise self.malformed(f"a line of more than {_LONGEST_LINE} bytes", "a short one")
            self._fetch(have + 1)

    def malformed(self, found: str, expected: str) -> MalformedCheckpoint:
        """The error for what stands here."""
        return MalformedCheckpoint(self.source.path, at=f"pickle, byte {self.position}", found=found, expected=expected)

    def _fetch(self, count: int) -> None:
        """Make at least ``count`` bytes available."""
        rest = self._buffer[self._place :]
        start = self._base + len(self._buffer)
        missing = count - len(rest)
        if start + missing > self._end:
            raise self.malformed(
                "the end of the file, or of what a pickle may hold", f"{count} bytes more of the pickle"
            )
        block = self.source.read(start, min(max(missing, _CHUNK), self._end - start))
        self._base += self._place
        self._place = 0
        self._buffer = rest + block
