"""The safetensors format: eight bytes of header length, a JSON header, then the tensors without gaps.

The rules are those of the reference implementation (huggingface/safetensors, ``tensor.rs``), and a few bounds of our own that no
honest file meets: 200,000 tensors a file, names of 1,000 bytes, 32 axes.
"""

from __future__ import annotations

from math import prod

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.dtypes import DTYPES
from homolog.checkpoint.extent import MOST_AXES, MOST_NUMBERS, Extent, row_major
from homolog.checkpoint.jsontext import Scanner
from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint, UnsupportedFormat

__all__ = ["read_safetensors"]

_LONGEST_HEADER = 100_000_000
_LONGEST_NAME = 1000
_MOST_TENSORS = 200_000


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
        if not scanner.accept(b"}"):
            while True:
                name = scanner.string("a tensor's name", _LONGEST_NAME)
                if name in extents or (metadata and name == "__metadata__"):
                    raise scanner.fail(f"the name {name!r} twice", "each name once")
                scanner.expect(b":", "after a name")
                if name == "__metadata__":
                    metadata = True
                    self._skip_metadata()
                elif len(extents) == _MOST_TENSORS:
                    raise scanner.fail(f"more than {_MOST_TENSORS} tensors", "fewer")
                else:
                    extents[name] = self._tensor(name)
                if scanner.accept(b"}"):
                    break
                scanner.expect(b",", "or '}' after an entry")
        scanner.finish()
        return extents

    def _skip_metadata(self) -> None:
        scanner = self._scanner
        scanner.expect(b"{", "to open __metadata__")
        first = True
        while not scanner.accept(b"}"):
            if not first:
                scanner.expect(b",", "or '}' in __metadata__")
            first = False
            scanner.skip_string("a key of __metadata__")
            scanner.expect(b":", "after a key of __metadata__")
            scanner.skip_string("a value of __metadata__")

    def _tensor(self, name: str) -> Extent:
        scanner = self._scanner
        kind: str | None = None
        shape: tuple[int, ...] | None = None
        offsets: tuple[int, ...] | None = None
        scanner.expect(b"{", "to open a tensor's entry")
        for place in range(3):
            if place:
                scanner.expect(b",", f"before the next field of {name!r}")
            field = scanner.string("dtype, shape or data_offsets")
            scanner.expect(b":", "after a field's name")
            if field == "dtype" and kind is None:
                kind = scanner.string("a kind of numbers")
            elif field == "shape" and shape is None:
                shape = scanner.integers(f"the shape of {name!r}", MOST_AXES)
            elif field == "data_offsets" and offsets is None:
                offsets = scanner.integers(f"the offsets of {name!r}", 2)
            else:
                raise scanner.fail(f"the field {field!r}", "each of dtype, shape and data_offsets once")
        scanner.expect(b"}", f"to close the entry of {name!r}")
        if kind is None or shape is None or offsets is None:
            raise scanner.fail("a field missing", "dtype, shape and data_offsets")
        return self._place(name, kind, shape, offsets)

    def _place(self, name: str, kind: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> Extent:
        at, path = f"tensor {name}", self._source.path
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise MalformedCheckpoint(
                path, at=at, found=f"data_offsets {list(offsets)}", expected="[start, stop], start ≤ stop"
            )
        dtype = DTYPES.get(kind)
        if dtype is None:
            raise UnsupportedFormat(path, at=at, found=f"dtype {kind!r}", expected=f"one of {', '.join(DTYPES)}")
        if prod(max(1, length) for length in shape) > MOST_NUMBERS:
            raise MalformedCheckpoint(path, at=at, found=f"shape {list(shape)}", expected="at most 2^48 numbers")
        start, stop = offsets
        nbytes, spare = divmod(prod(shape) * dtype.bits, 8)
        if spare or stop - start != nbytes:
            needed = f"{nbytes} bytes for {kind} of shape {list(shape)}" if not spare else "a whole number of bytes"
            raise MalformedCheckpoint(path, at=at, found=f"{stop - start} bytes", expected=needed)
        info = TensorInfo(name, shape, kind, nbytes)
        return Extent(info, dtype, self._source, self._data_start + start, row_major(shape))


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
