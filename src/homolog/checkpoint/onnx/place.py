"""Where the numbers of an initialiser lie: in the file, in a file beside it, or, for the few that must be decoded, in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.dtypes import DTYPES, DType
from homolog.checkpoint.extent import MOST_NUMBERS, Extent, row_major
from homolog.checkpoint.onnx.graph import Record
from homolog.checkpoint.onnx.wire import BYTES, Field, Wire
from homolog.checkpoint.shards import check_inside
from homolog.checkpoint.source import FileSource, Source
from homolog.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint, UnsupportedFormat

__all__ = ["KINDS", "OpenBeside", "Placer", "open_beside"]

OpenBeside = Callable[[str], Source]
"""Opens a file of the same folder by its relative name; raises where it may not or cannot."""

KINDS = {
    **{
        1: "F32",
        2: "U8",
        3: "I8",
        4: "U16",
        5: "I16",
        6: "I32",
        7: "I64",
        9: "BOOL",
        10: "F16",
        11: "F64",
        12: "U32",
        13: "U64",
    },
    **{
        14: "C64",
        15: "C128",
        16: "BF16",
        17: "F8_E4M3",
        18: "F8_E4M3FNUZ",
        19: "F8_E5M2",
        20: "F8_E5M2FNUZ",
        24: "F8_E8M0",
    },
}
"""``TensorProto.DataType`` in the spelling of safetensors, where one number takes whole bytes."""
_IN_PLACE = {("float_data", "F32"), ("double_data", "F64")}
"""Typed fields whose packed run holds the numbers as they are."""
_DECODED = {
    **dict.fromkeys(("I8", "U8", "I16", "U16", "I32", "BOOL", "F16", "BF16"), "int32_data"),
    **{"I64": "int64_data", "U32": "uint64_data", "U64": "uint64_data"},
}
"""Typed fields that hold numbers of variable length."""
_MOST_DECODED = 1 << 17
"""Numbers decoded of one file; exporters write more than a few as raw bytes."""
_WHOLE = re.compile(r"[0-9]{1,19}")


class _Decoded:
    """A few numbers in memory that lie in the file in another form."""

    def __init__(self, path: Path, block: bytes) -> None:
        self.path = path
        self._block = block

    @property
    def size(self) -> int:
        return len(self._block)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were decoded when the file was opened; they were counted then."""
        return self._block[offset : offset + length]


class Placer:
    """Gives initialisers of one file their extents."""

    def __init__(self, source: Source, open_beside: OpenBeside | None) -> None:
        self._source = source
        self._wire = Wire(source)
        self._open_beside = open_beside
        self._left = _MOST_DECODED
        self.beside: dict[str, Source] = {}
        """Files beside the model that hold numbers of it, by name."""

    def place(self, record: Record) -> Extent:
        """Check the numbers against the shape; none is read, but where they must be decoded.

        Raises ``UnsupportedFormat``, ``MalformedCheckpoint``, ``UnsafeCheckpoint`` for data outside of the folder, ``IncompleteCheckpoint``
        for data in a file that is not there.
        """
        at = f"tensor {record.name}"
        dtype = DTYPES.get(KINDS.get(record.kind, ""))
        if dtype is None or dtype.storage is None:
            found = f"numbers of kind {record.kind}"
            raise UnsupportedFormat(
                self._source.path, at=at, found=found, expected="a kind of whole bytes, not complex"
            )
        shape = record.dims
        if any(length < 0 for length in shape) or prod(max(1, length) for length in shape) > MOST_NUMBERS:
            raise self._fail(at, f"shape {list(shape)}", "at most 2^48 numbers, nothing negative")
        nbytes = prod(shape) * dtype.itemsize
        source, offset = self._find(record, dtype, nbytes, at)
        info = TensorInfo(record.name, shape, dtype.name, nbytes)
        return Extent(info, dtype, source, offset, row_major(shape))

    def _find(self, record: Record, dtype: DType, nbytes: int, at: str) -> tuple[Source, int]:
        given = (record.raw is not None) + (record.typed is not None) + (record.external is not None)
        if given > 1:
            raise self._fail(at, "numbers in several places", "one: raw_data, a typed field or another file")
        if record.external is not None:
            return self._find_beside(record.external, nbytes, at)
        if record.typed is not None:
            return self._find_typed(record, dtype, nbytes, at)
        start, stop = record.raw or (0, 0)
        if stop - start != nbytes:
            raise self._fail(at, f"{stop - start} bytes", f"{nbytes} for {dtype.name} of shape {list(record.dims)}")
        return self._source, start

    def _find_typed(self, record: Record, dtype: DType, nbytes: int, at: str) -> tuple[Source, int]:
        assert record.typed is not None
        name, start, stop = record.typed
        if not record.packed:
            raise UnsupportedFormat(
                self._source.path, at=at, found=f"{name} number by number", expected="one packed run"
            )
        if (name, dtype.name) in _IN_PLACE:
            if stop - start != nbytes:
                raise self._fail(at, f"{stop - start} bytes", f"{nbytes} for {dtype.name} of shape {list(record.dims)}")
            return self._source, start
        if _DECODED.get(dtype.name) != name:
            raise self._fail(at, f"{dtype.name} in {name}", "the field that ONNX has for that kind")
        count = nbytes // dtype.itemsize
        numbers = self._wire.numbers(Field(1, BYTES, 0, start, stop), min(count, self._left), at)
        if len(numbers) != count:
            raise self._fail(at, f"{len(numbers)} numbers", f"{count} for shape {list(record.dims)}")
        self._left -= count
        return _Decoded(self._source.path, _encode(numbers, dtype)), 0

    def _find_beside(self, external: dict[str, str], nbytes: int, at: str) -> tuple[Source, int]:
        location = external.get("location", "")
        parts = location.split("/")
        if (
            any(part in ("", ".", "..") for part in parts)
            or not location.isprintable()
            or re.search(r"[\\:]", location)
        ):
            expected = "a relative path inside the folder"
            raise UnsafeCheckpoint(self._source.path, at=at, found=f"numbers in {location!r}", expected=expected)
        for key in ("offset", "length"):
            if not _WHOLE.fullmatch(external.get(key, "0")):
                raise self._fail(at, f"{key} {external[key]!r}", "a whole number of bytes")
        offset, length = int(external.get("offset", "0")), int(external.get("length", nbytes))
        if location not in self.beside:
            if self._open_beside is None:
                raise IncompleteCheckpoint(
                    self._source.path, at=at, found=f"numbers in the file {location!r}", expected="that file beside it"
                )
            self.beside[location] = self._open_beside(location)
        source = self.beside[location]
        if length != nbytes or offset + nbytes > source.size:
            found = f"{length} bytes from {offset} of the {source.size} of {location}"
            raise self._fail(at, found, f"{nbytes} bytes inside the file")
        return source, offset

    def _fail(self, at: str, found: str, expected: str) -> MalformedCheckpoint:
        return MalformedCheckpoint(self._source.path, at=at, found=found, expected=expected)


def open_beside(source: FileSource, name: str) -> Source:
    """A file that the model names, which must lie in the model's folder, links followed.

    Raises ``UnsafeCheckpoint`` where it does not, ``IncompleteCheckpoint`` where there is none.
    """
    path = source.path.parent / name
    if not os.path.lexists(path):
        raise IncompleteCheckpoint(
            source.path, at="external data", found=f"no file {name!r}", expected="it beside the model"
        )
    check_inside(source.path.parent, path)
    return source.open_beside(name)


def _encode(numbers: list[int], dtype: DType) -> bytes:
    """Numbers as the kind stores them; ``F16`` and ``BF16`` are given by their bits."""
    bits = np.array([number & 0xFFFF_FFFF_FFFF_FFFF for number in numbers], dtype="<u8")
    return bits.astype(f"<u{dtype.itemsize}").tobytes()
