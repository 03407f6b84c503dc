"""The protobuf wire format, read field by field from a file: nothing is decoded that was not asked for, and large fields are passed over.

The encoding is that of https://protobuf.dev/programming-guides/encoding; groups, which no ONNX file uses, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint

__all__ = ["Field", "Wire"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 300_000
"""In one file; a node of a graph takes about ten, and the largest graphs have some ten thousand nodes."""
_LONGEST_VARINT = 10
_SMALL, _LARGE = 1 << 10, 1 << 16
"""Bytes fetched at once after a jump, and when reading on."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    kind: int
    """0 a whole number, 1 eight bytes, 2 a run of bytes, 5 four bytes."""
    value: int
    """Of a whole number; else 0."""
    start: int
    stop: int
    """The bytes of any other kind: ``start:stop`` of the file."""


class Wire:
    """Walks the messages of one file. Every method raises ``MalformedCheckpoint`` where the bytes are no protobuf."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._fields_left = _MOST_FIELDS
        self._window = b""
        self._base = 0
        self._step = _SMALL

    def fields(self, start: int, stop: int, at: str) -> Iterator[Field]:
        """The fields of the message in ``start:stop``; ``at`` names it in errors."""
        place = start
        while place < stop:
            if not self._fields_left:
                raise self.fail(place, at, f"more than {_MOST_FIELDS} fields", "fewer")
            self._fields_left -= 1
            tag, place = self._varint(place, stop, at)
            number, kind = tag >> 3, tag & 7
            value = 0
            if not 0 < number < 1 << 29:
                raise self.fail(place, at, f"field number {number}", "one from 1 to 2^29 - 1")
            if kind == VARINT:
                value, place = self._varint(place, stop, at)
                first = place
            elif kind in (FIXED32, FIXED64):
                first, place = place, place + (4 if kind == FIXED32 else 8)
            elif kind == BYTES:
                length, first = self._varint(place, stop, at)
                place = first + length
            else:
                raise self.fail(place, at, f"wire type {kind}", "one of 0, 1, 2 and 5")
            if place > stop:
                raise self.fail(
                    first, at, f"a field of {place - first} bytes", f"at most the {stop - first} that follow"
                )
            yield Field(number, kind, value, first, place)

    def text(self, field: Field, longest: int, at: str) -> str:
        """The text of a field."""
        try:
            return self.run(field, longest, at).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(field.start, at, "bytes that are not text", "UTF-8") from error

    def run(self, field: Field, longest: int, at: str) -> bytes:
        """The bytes of a field."""
        if field.kind != BYTES:
            raise self.fail(field.start, at, f"field {field.number} of wire type {field.kind}", "a run of bytes")
        if field.stop - field.start > longest:
            raise self.fail(field.start, at, f"{field.stop - field.start} bytes", f"at most {longest}")
        return self._have(field.start, field.stop - field.start)

    def number(self, field: Field, at: str) -> int:
        """The whole number of a field, with its sign."""
        if field.kind != VARINT:
            raise self.fail(field.start, at, f"field {field.number} of wire type {field.kind}", "a whole number")
        return _signed(field.value)

    def numbers(self, field: Field, most: int, at: str) -> list[int]:
        """The whole numbers of a repeated field: one, or a packed run of them."""
        if field.kind == VARINT:
            return [_signed(field.value)]
        if field.kind != BYTES:
            raise self.fail(field.start, at, f"field {field.number} of wire type {field.kind}", "whole numbers")
        numbers: list[int] = []
        place = field.start
        while place < field.stop:
            if len(numbers) == most:
                raise self.fail(place, at, f"more than {most} numbers", "fewer")
            value, place = self._varint(place, field.stop, at)
            numbers.append(_signed(value))
        return numbers

    def fail(self, place: int, at: str, found: str, expected: str) -> MalformedCheckpoint:
        """The error for what stands at a byte of the file."""
        return MalformedCheckpoint(self.source.path, at=f"{at}, byte {place}", found=found, expected=expected)

    def _varint(self, place: int, stop: int, at: str) -> tuple[int, int]:
        first = place - self._base
        if 0 <= first < len(self._window) and place < stop and self._window[first] < 0x80:
            return self._window[first], place + 1
        block = self._have(place, min(_LONGEST_VARINT, stop - place))
        value = 0
        for count, byte in enumerate(block):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, place + count + 1
        raise self.fail(place, at, "a number that does not end", "one of at most ten bytes, inside its message")

    def _have(self, place: int, count: int) -> bytes:
        first = place - self._base
        if not 0 <= first <= first + count <= len(self._window):
            reading_on = 0 <= first <= len(self._window)
            self._step = min(2 * self._step, _LARGE) if reading_on else _SMALL
            length = max(count, min(self._step, self.source.size - place))
            self._window, self._base, first = self.source.read(place, length), place, 0
        return self._window[first : first + count]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
