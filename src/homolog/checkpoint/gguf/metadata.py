"""The metadata of a GGUF file: keys with values of thirteen kinds, arrays of arrays among them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from homolog.checkpoint.gguf.cursor import Cursor

__all__ = ["count_metadata", "read_metadata"]

_MOST_KEYS = 10_000
_LONGEST_KEY = 65_535
_MOST_NUMBERS = 4_000_000
_DEEPEST = 4
_MOST_NESTED = 10_000
_KINDS = "BbHhIif?\0\0Qqd"
"""By the number of the kind, in the letters of `struct`; the eighth is a string, the ninth an array."""
_BOOL, _STRING, _ARRAY = 7, 8, 9
_LEAST_BYTES = {_STRING: 8, _ARRAY: 12}
_CODES = {kind: struct.Struct(f"<{letter}") for kind, letter in enumerate(_KINDS) if letter != "\0"}


def read_metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    """``count`` keys with their values: numbers, truth values, ``str``, arrays (numpy), lists of ``bytes``, lists of arrays.

    Raises `MalformedCheckpoint` where a value does not fit into the file or its bounds.
    """
    values: dict[str, Any] = {}
    for _ in range(count):
        cursor.what = "metadata"
        key = _decode(cursor, cursor.string(_LONGEST_KEY))
        if not key or key in values:
            raise cursor.fail(f"the key {key[:100]!r} " + ("twice" if key else "without a name"), "each key once")
        cursor.what = f"metadata {key[:100]}"
        values[key] = _read_value(cursor, _read_kind(cursor))
    return values


def count_metadata(cursor: Cursor) -> int:
    """How many keys there are."""
    return cursor.count("keys", _MOST_KEYS, 13)


def _decode(cursor: Cursor, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise cursor.fail(f"a key {raw[:100]!r}", "UTF-8 text") from None


def _read_kind(cursor: Cursor) -> int:
    kind = int.from_bytes(cursor.take(4), "little")
    if kind >= len(_KINDS):
        raise cursor.fail(f"a value of kind {kind}", f"a kind from 0 to {len(_KINDS) - 1}")
    return kind


def _read_value(cursor: Cursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.string().decode("utf-8", "replace")
    if kind == _ARRAY:
        return _Arrays(cursor).read(1)
    if kind == _BOOL:
        return _truth(cursor, cursor.take(1)) == 1
    return cursor.number(_CODES[kind])


class _Arrays:
    """The arrays of one value, and how many there were inside each other."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._nested = 0

    def read(self, depth: int) -> Any:
        cursor = self._cursor
        kind = _read_kind(cursor)
        if kind == _STRING:
            return cursor.strings(cursor.count("strings", _MOST_NUMBERS, 8))
        if kind == _ARRAY:
            count = cursor.count("arrays", _MOST_NESTED, 12)
            self._nested += count
            if depth == _DEEPEST or self._nested > _MOST_NESTED:
                raise cursor.fail("too many arrays inside each other", f"{_DEEPEST} deep, {_MOST_NESTED} in all")
            return [self.read(depth + 1) for _ in range(count)]
        size = _CODES[kind].size
        count = cursor.count("numbers", _MOST_NUMBERS, size)
        raw = cursor.take(count * size)
        if kind == _BOOL:
            _truth(cursor, raw)
        return np.frombuffer(raw, dtype=np.dtype(_KINDS[kind]).newbyteorder("<"))


def _truth(cursor: Cursor, raw: bytes) -> int:
    worst = max(raw, default=0)
    if worst > 1:
        raise cursor.fail(f"a truth value {worst}", "0 or 1")
    return worst
