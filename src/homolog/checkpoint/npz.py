"""numpy's own archives: a zip of arrays, each with a header of its own (numpy/numpy, ``numpy/lib/_format_impl.py``).

Arrays that the archive stores as they are stay in place. Deflated ones must be unpacked before any part can be read, so a model of them is
read only up to a bound. Nothing is unpickled and no header is evaluated.
"""

from __future__ import annotations

import re
import zlib
from math import prod
from pathlib import Path

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.dtypes import DTYPES
from homolog.checkpoint.extent import MOST_AXES, MOST_NUMBERS, Extent, row_major
from homolog.checkpoint.source import Source
from homolog.checkpoint.torchbin.archive import Archive, Member
from homolog.errors import MalformedCheckpoint, UnsafeCheckpoint, UnsupportedFormat

__all__ = ["is_npz", "read_npz"]

_MAGIC = b"\x93NUMPY"
_ENDING = ".npy"
_LONGEST_HEADER = 10_000
"""numpy itself reads no longer one without being told that the file is trusted."""
_LONGEST_NAME = 1000
_MOST_UNPACKED = 64 << 20
"""Bytes of all deflated arrays together."""
_VALUE = rb"'[^'\\]{0,64}'|True|False|\((?:[0-9]{1,19}L?, ?){0,64}(?:[0-9]{1,19}L?)?\)"
_PAIR = rb" ?'(descr|fortran_order|shape)' ?: ?(" + _VALUE + rb") ?"
_HEADER = re.compile(rb"\{" + _PAIR + b"," + _PAIR + b"," + _PAIR + rb",? ?\}[ \x00]*\n?")
_KINDS = {
    **{"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8"},
    **{"u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL", "V2": "BF16", "c8": "C64", "c16": "C128"},
}
"""``V2`` is what numpy writes for bfloat16, which it does not know."""


class _Unpacked:
    """A deflated member, unpacked when it is first read."""

    def __init__(self, source: Source, archive: Archive, member: Member) -> None:
        self.path: Path = source.path
        self.size = member.size
        self._archive = archive
        self._member = member
        self._block: bytes | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the unpacked member."""
        if self._block is None:
            self._block = self._archive.read(self._member, _MOST_UNPACKED)
        return self._block[offset : offset + length]


def is_npz(archive: Archive) -> bool:
    """Whether a zip archive holds arrays of numpy and nothing else."""
    return bool(archive.members) and all(name.endswith(_ENDING) for name in archive.members)


def read_npz(source: Source, archive: Archive) -> tuple[dict[str, Extent], list[str]]:
    """The arrays by name, and notes.

    Raises ``UnsafeCheckpoint`` for arrays of pickled objects, ``UnsupportedFormat`` for other kinds that homolog does not read and for more
    deflated arrays than it unpacks, ``MalformedCheckpoint`` for the rest.
    """
    packed = [member for member in archive.members.values() if member.method]
    unpacked = sum(member.size for member in packed)
    if unpacked > _MOST_UNPACKED:
        found = f"{unpacked} bytes of deflated arrays"
        expected = f"at most {_MOST_UNPACKED}; numpy.savez stores arrays so that they can be read in parts"
        raise UnsupportedFormat(source.path, at="zip archive", found=found, expected=expected)
    extents: dict[str, Extent] = {}
    for member in archive.members.values():
        name = member.name.removesuffix(_ENDING)
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise MalformedCheckpoint(
                source.path, at="zip archive", found=f"the name {name!r}", expected="a short plain name"
            )
        if member.method:
            inner: Source = _Unpacked(source, archive, member)
            extents[name] = _place(name, inner, 0, _start_of(source, archive, member), member.size)
        else:
            start = archive.locate(member)
            head = source.read(start, min(member.size, _LONGEST_HEADER + 12))
            extents[name] = _place(name, source, start, head, member.size)
    notes = [f"{len(packed)} arrays are deflated and are unpacked whole when they are read"] if packed else []
    if any(extent.dtype.name == "BF16" for extent in extents.values()):
        notes.append("two-byte numbers of no kind that numpy knows are read as bfloat16")
    return extents, notes


def _start_of(source: Source, archive: Archive, member: Member) -> bytes:
    """The first bytes of a deflated member: enough for its header."""
    block = source.read(archive.locate(member), min(member.packed, 2 * _LONGEST_HEADER))
    try:
        return zlib.decompressobj(-15).decompress(block, _LONGEST_HEADER + 12)
    except zlib.error as error:
        raise MalformedCheckpoint(
            source.path, at=f"member {member.name}", found=str(error), expected="deflated bytes"
        ) from error


def _place(name: str, source: Source, start: int, head: bytes, size: int) -> Extent:
    """Check an array's header against its bytes: ``size`` of them from ``start``, of which ``head`` are the first."""
    at = f"array {name}"
    if head[:6] != _MAGIC or len(head) < 12 or head[6] not in (1, 2, 3) or head[7]:
        raise MalformedCheckpoint(
            source.path, at=at, found=f"{head[:8]!r}", expected="an array of numpy, format 1, 2 or 3"
        )
    width = 2 if head[6] == 1 else 4
    first = 8 + width
    length = int.from_bytes(head[8:first], "little")
    header = (
        _HEADER.fullmatch(head[first : first + length]) if length <= min(_LONGEST_HEADER, len(head) - first) else None
    )
    fields = dict(zip(header.groups()[::2], header.groups()[1::2], strict=True)) if header else {}
    if len(fields) != 3:
        found = f"a header of {length} bytes: {head[first : first + min(length, 60)].decode('latin-1')!a}"
        raise MalformedCheckpoint(source.path, at=at, found=found, expected="descr, fortran_order and shape, each once")
    kind = _kind(source.path, at, fields[b"descr"])
    shape_text = fields[b"shape"]
    if fields[b"fortran_order"] not in (b"True", b"False") or not shape_text.startswith(b"("):
        raise MalformedCheckpoint(
            source.path, at=at, found="values in the wrong places", expected="a truth value and a shape"
        )
    shape = tuple(int(number.rstrip(b"L")) for number in shape_text[1:-1].replace(b" ", b"").split(b",") if number)
    if len(shape) > MOST_AXES or prod(max(1, axis) for axis in shape) > MOST_NUMBERS:
        raise MalformedCheckpoint(
            source.path, at=at, found=f"shape {list(shape)}", expected=f"at most {MOST_AXES} axes, 2^48 numbers"
        )
    dtype = DTYPES[kind]
    nbytes = prod(shape) * dtype.itemsize
    if size - first - length != nbytes:
        found = f"{size - first - length} bytes"
        raise MalformedCheckpoint(
            source.path, at=at, found=found, expected=f"{nbytes} for {kind} of shape {list(shape)}"
        )
    info = TensorInfo(name, shape, kind, nbytes)
    columns = fields[b"fortran_order"] == b"True"
    strides = row_major(shape[::-1])[::-1] if columns else row_major(shape)
    return Extent(info, dtype, source, start + first + length, strides)


def _kind(path: Path, at: str, descr: bytes) -> str:
    """The kind of numbers in the spelling of safetensors."""
    text = descr.decode("ascii", "backslashreplace")[1:-1] if descr.startswith(b"'") else ""
    order, kind = text[:1], text[1:]
    if kind.startswith("O"):
        raise UnsafeCheckpoint(path, at=at, found="pickled objects", expected="an array of numbers")
    if order not in ("<", "|", "=") or kind not in _KINDS:
        raise UnsupportedFormat(path, at=at, found=f"numbers of kind {text!r}", expected="little-endian numbers")
    return _KINDS[kind]
