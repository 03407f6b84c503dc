"""The safetensors format: eight bytes of header length, a JSON header, then the tensors without gaps.

The rules are those of the reference implementation (huggingface/safetensors, ``tensor.rs``), and a few bounds of our own that no
honest file meets: 200,000 tensors a file, names of 1,000 bytes, 32 axes.
"""

from __future__ import annotations

import re
from math import prod

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.dtypes import DTYPES
from homolog.checkpoint.extent import MOST_AXES, MOST_NUMBERS, Extent, row_major
from homolog.checkpoint.jsontext import NUMBER, STRING, Scanner
from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint, UnsupportedFormat

__all__ = ["read_safetensors"]

_LONGEST_HEADER = 100_000_000
_LONGEST_NAME = 1000
_MOST_TENSORS = 100_000
_SPACE = rb"[ \t\r\n]*+"
_LIST = rb"\[(" + _SPACE + rb"(?:" + NUMBER + _SPACE + rb"(?:," + _SPACE + NUMBER + _SPACE + rb"){0,63}+)?+)\]"
_PAIR = STRING + _SPACE + b":" + _SPACE + STRING + _SPACE
_METADATA = re.compile(rb"\{" + _SPACE + b"(?:" + _PAIR + b"(?:," + _SPACE + _PAIR + rb")*+)?+\}" + _SPACE + b"([,}])")
_COLON = rb'"' + _SPACE + b":" + _SPACE
_FIELD = (
    rb'"(?:dtype'
    + _COLON
    + rb'"([^"\\\x00-\x1f]{0,64})"|shape'
    + _COLON
    + _LIST
    + b"|data_offsets"
    + _COLON
    + _LIST
    + b")"
    + _SPACE
)
# The three fields in any order: nine groups, of which each field must fill one.
_ENTRY = re.compile(rb"\{" + _SPACE + (_FIELD + b"," + _SPACE) * 2 + _FIELD + rb"\}" + _SPACE + b"([,}])")
_ENTRY_EXPECTED = "{dtype, shape, data_offsets}, each once and whole numbers of at most 19 digits, then ',' or '}'"


def read_safetensors(source: Source) -> dict[str, Extent]:
    """Read and check the header; the tensors by name, none of them read.

    Raises ``MalformedCheckpoint`` where the header contradicts itself or the file, ``UnsupportedFormat`` for unknown kinds of numbers.
    """
    if source.size < 8:
        raise MalformedCheckpoint(
            source.path, at="header length", found=f"{source.size} bytes", expected="at least 8 bytes"
        )
    length = int.from_bytes(source.read(0, 8), "little")
    room = source.size - 8
    if length > min(room, _LONGEST_HEADER):
        limit = (
            f"at most {_LONGEST_HEADER} bytes" if room > _LONGEST_HEADER else f"at most the {room} bytes that follow"
        )
        raise MalformedCheckpoint(source.path, at="header length", found=f"{length} bytes", expected=limit)
    scanner = Scanner(source.read(8, length), source.path, "header", origin=8)
    extents = _Header(source, scanner, 8 + length).parse()
    _check_cover(source, extents, 8 + length)
    return extents


class _Header:
    def __init__(self, source: Source, scanner: Scanner, data_start: int) -> None:
        self._source = source
        self._scanner = scanner
        self._data_start = data_start

    def parse(self) -> dict[str, Extent]:
        scanner = self._scanner
        extents: dict[str, Extent] = {}
        metadata = False
        if not scanner.accept(b"{") or scanner.place != 1:
            raise scanner.fail("no '{'", "a JSON object that starts right after the length")
        more = not scanner.accept(b"}")
        while more:
            name = scanner.key("a tensor's name", _LONGEST_NAME)
            if name in extents or (metadata and name == "__metadata__"):
                raise scanner.fail(f"the name {name!r} twice", "each name once")
            if name == "__metadata__":
                metadata = True
                more = scanner.take(_METADATA, "__metadata__: an object of strings, then ',' or '}'")[5] == b","
            elif len(extents) == _MOST_TENSORS:
                raise scanner.fail(f"more than {_MOST_TENSORS} tensors", "fewer")
            else:
                match = scanner.take(_ENTRY, _ENTRY_EXPECTED)
                extents[name] = self._place(name, *self._fields(match))
                more = match[10] == b","
        scanner.finish()
        return extents

    def _fields(self, match: re.Match[bytes]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        groups = match.groups()
        kind, shape, offsets = ([given for given in groups[field:9:3] if given is not None] for field in range(3))
        if not (len(kind) == len(shape) == len(offsets) == 1):
            raise self._scanner.fail("a field twice", _ENTRY_EXPECTED)
        return kind[0].decode("ascii", "backslashreplace"), _whole_numbers(shape[0]), _whole_numbers(offsets[0])

    def _place(self, name: str, kind: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> Extent:
        at, path = f"tensor {name}", self._source.path
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise MalformedCheckpoint(
                path, at=at, found=f"data_offsets {list(offsets)}", expected="[start, stop], start ≤ stop"
            )
        dtype = DTYPES.get(kind)
        if dtype is None:
            raise UnsupportedFormat(path, at=at, found=f"dtype {kind!r}", expected=f"one of {', '.join(DTYPES)}")
        if len(shape) > MOST_AXES or prod([length or 1 for length in shape]) > MOST_NUMBERS:
            raise MalformedCheckpoint(
                path, at=at, found=f"shape {list(shape)}", expected=f"at most {MOST_AXES} axes, 2^48 numbers"
            )
        start, stop = offsets
        nbytes, spare = divmod(prod(shape) * dtype.bits, 8)
        if spare or stop - start != nbytes:
            needed = f"{nbytes} bytes for {kind} of shape {list(shape)}" if not spare else "a whole number of bytes"
            raise MalformedCheckpoint(path, at=at, found=f"{stop - start} bytes", expected=needed)
        info = TensorInfo(name, shape, kind, nbytes)
        return Extent(info, dtype, self._source, self._data_start + start, row_major(shape))


def _whole_numbers(raw: bytes) -> tuple[int, ...]:
    return tuple([int(number) for number in raw.split(b",")]) if raw.strip() else ()


def _check_cover(source: Source, extents: dict[str, Extent], data_start: int) -> None:
    """The tensors must follow each other without overlap or hole, up to the end of the file."""
    expected = data_start
    for extent in sorted(extents.values(), key=lambda extent: (extent.offset, extent.info.nbytes)):
        if extent.offset != expected:
            fault = "an overlap with the tensor before" if extent.offset < expected else "a hole before it"
            raise MalformedCheckpoint(
                source.path,
                at=f"tensor {extent.info.name}",
                found=f"{fault} (start {extent.offset - data_start})",
                expected=f"a start at {expected - data_start}",
            )
        expected += extent.info.nbytes
    if expected != source.size:
        fault = "is truncated" if expected > source.size else "has bytes that belong to no tensor"
        raise MalformedCheckpoint(
            source.path, at="end of file", found=f"{source.size} bytes: the file {fault}", expected=f"{expected} bytes"
        )
