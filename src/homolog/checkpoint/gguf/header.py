"""The header of a GGUF file: metadata and the table of tensors, all of it checked against the file before a tensor is read.

The rules are those of the specification (ggml-org/ggml, docs/gguf.md) and of its reader (ggml-org/llama.cpp, ggml/src/gguf.cpp):
versions 2 and 3, four axes at most, tensors one after the other with nothing but padding between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.extent import MOST_NUMBERS, Extent, row_major
from homolog.checkpoint.gguf.blocks import KINDS
from homolog.checkpoint.gguf.cursor import Cursor
from homolog.checkpoint.gguf.metadata import count_metadata, read_metadata
from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint, UnsupportedFormat

__all__ = ["MAGIC", "read_gguf"]

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_TENSORS = 100_000
_MOST_AXES = 4
_LONGEST_NAME = 1000
_ONE_ROW = ".ffn_gate_inp_shexp.weight"
"""A matrix of one row, which some versions of the converter store as a vector."""
_LEAST_INFO = 24
"""Bytes of a tensor without name and axes."""
_ALIGNMENT = 32
_LARGEST_ALIGNMENT = 1 << 20


def read_gguf(source: Source) -> tuple[dict[str, Extent], Mapping[str, Any]]:
    """The tensors of one file in place, and its metadata.

    Shapes are given in numpy's order, the slowest axis first, which is the reverse of the file's. Raises `MalformedCheckpoint` where
    the header contradicts itself or the file, `UnsupportedFormat` for other versions, byte orders and kinds of numbers.
    """
    cursor = Cursor(source)
    magic = cursor.take(4)
    if magic != MAGIC:
        raise MalformedCheckpoint(source.path, at="first bytes", found=repr(magic), expected=repr(MAGIC))
    _check_version(source, int.from_bytes(cursor.take(4), "little"))
    tensors = cursor.count("tensors", _MOST_TENSORS, _LEAST_INFO)
    keys = count_metadata(cursor)
    metadata = read_metadata(cursor, keys)
    alignment = _read_alignment(source, metadata)
    cursor.what = "tensors"
    found = [_read_info(cursor, source) for _ in range(tensors)]
    start = _pad(cursor.place, alignment)
    extents: dict[str, Extent] = {}
    for extent in found:
        name = extent.info.name
        if name in extents:
            raise MalformedCheckpoint(source.path, at=f"tensor {name}", found="the name twice", expected="each once")
        extents[name] = Extent(extent.info, extent.dtype, source, start + extent.offset, extent.strides)
    _check_cover(source, extents, start, alignment)
    return extents, metadata


def _check_version(source: Source, version: int) -> None:
    if version in _VERSIONS:
        return
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    found = f"a big-endian file of version {swapped}" if swapped in (1, *_VERSIONS) else f"version {version}"
    expected = "version 2 or 3, little-endian: convert the model again with a present-day llama.cpp"
    raise UnsupportedFormat(source.path, at="version", found=found, expected=expected)


def _read_alignment(source: Source, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    usable = type(alignment) is int and 0 < alignment <= _LARGEST_ALIGNMENT and alignment & (alignment - 1) == 0
    if not usable:
        found, expected = str(alignment)[:100], f"a power of two of at most {_LARGEST_ALIGNMENT}"
        raise MalformedCheckpoint(source.path, at="metadata general.alignment", found=found, expected=expected)
    return int(alignment)


def _read_info(cursor: Cursor, source: Source) -> Extent:
    """One tensor, with its offset from the start of the data."""
    raw = cursor.string(_LONGEST_NAME)
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise cursor.fail(f"a name {raw[:100]!r}", "UTF-8 text") from None
    at, path = f"tensor {name}", source.path
    axes = int.from_bytes(cursor.take(4), "little")
    if axes > _MOST_AXES:
        raise MalformedCheckpoint(path, at=at, found=f"{axes} axes", expected=f"at most {_MOST_AXES}")
    shape = tuple(int.from_bytes(cursor.take(8), "little") for _ in range(axes))[::-1]
    if axes == 1 and name.endswith(_ONE_ROW):
        shape = (1, *shape)
    if prod([length or 1 for length in shape]) > MOST_NUMBERS:
        raise MalformedCheckpoint(path, at=at, found=f"shape {list(shape)}", expected="at most 2^48 numbers")
    kind = int.from_bytes(cursor.take(4), "little")
    offset = int.from_bytes(cursor.take(8), "little")
    dtype = KINDS.get(kind)
    if dtype is None:
        expected = f"one of {', '.join(kind.name for kind in KINDS.values())}"
        raise UnsupportedFormat(path, at=at, found=f"numbers of kind {kind}", expected=expected)
    row = shape[-1] if shape else 1
    if row % dtype.block:
        expected = f"a multiple of {dtype.block} for {dtype.name}"
        raise MalformedCheckpoint(path, at=at, found=f"rows of {row}", expected=expected)
    stored = (*shape[:-1], row // dtype.block) if shape else ()
    lattice = f"{dtype.name}: {dtype.block} numbers in {dtype.itemsize} bytes" if dtype.block > 1 else ""
    info = TensorInfo(name, shape, dtype.name, prod(stored) * dtype.itemsize, lattice)
    return Extent(info, dtype, source, offset, row_major(stored))


def _check_cover(source: Source, extents: Mapping[str, Extent], start: int, alignment: int) -> None:
    """The tensors must follow each other, padded to the alignment, and end within the file."""
    expected = end = start
    for extent in sorted(extents.values(), key=lambda extent: (extent.offset, extent.info.nbytes)):
        if extent.offset != expected:
            fault = "an overlap with the tensor before" if extent.offset < expected else "a hole before it"
            raise MalformedCheckpoint(
                source.path,
                at=f"tensor {extent.info.name}",
                found=f"{fault} (offset {extent.offset - start})",
                expected=f"the offset {expected - start}",
            )
        end = extent.offset + extent.info.nbytes
        expected = _pad(end, alignment)
    if end > source.size and extents:
        found = f"{source.size} bytes: the file is truncated"
        raise MalformedCheckpoint(source.path, at="end of file", found=found, expected=f"at least {end} bytes")


def _pad(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
