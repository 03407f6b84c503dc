"""Reading the stored tensors of a quantised checkpoint as they are: codes as integers, scales as numbers, by rows of the matrix."""

from __future__ import annotations

from math import prod

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.checkpoint.dtypes import DTYPES
from homolog.checkpoint.quant.bits import Stored
from homolog.errors import MalformedCheckpoint

__all__ = ["RawReader"]

_WIDE = ("I32", "I64", "U32", "U64", "F64")
"""Kinds that float32 cannot hold exactly."""


class RawReader:
    """The stored tensors by *rows*: all axes but those behind ``lead`` leading ones, flattened, count rows of the matrix."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def rows(self, name: str, start: int, stop: int, lead: int = 1) -> Stored:
        """Rows ``start:stop``, shape ``(stop - start, numbers of a row)``: integers exactly as stored, floats as float32."""
        info = self._checkpoint.tensors[name]
        shape = info.shape or (1,)
        across = prod(shape[lead:])
        if lead == 1 or len(shape) < 2:
            return self._leading(name, start, stop).reshape(stop - start, across)
        inner = prod(shape[1:lead])
        out: list[Stored] = []
        for block in range(start // inner, -(-stop // inner)):
            low, high = max(start - block * inner, 0), min(stop - block * inner, inner)
            out.append(self._within(name, block, low, high, inner).reshape(high - low, across))
        return np.concatenate(out) if len(out) != 1 else out[0]

    def whole(self, name: str) -> Stored:
        """A whole small tensor, flat."""
        info = self._checkpoint.tensors[name]
        return self._leading(name, 0, (info.shape or (1,))[0]).reshape(-1)

    def numbers(self, name: str, start: int, stop: int, lead: int = 1) -> Array:
        """As `rows`, as float32."""
        return np.asarray(self.rows(name, start, stop, lead), dtype=np.float32)

    def fail(self, name: str, found: str, expected: str) -> MalformedCheckpoint:
        """The error for what a tensor holds."""
        return MalformedCheckpoint(self._checkpoint.locate(name), at=f"tensor {name}", found=found, expected=expected)

    def _leading(self, name: str, start: int, stop: int) -> Stored:
        info = self._checkpoint.tensors[name]
        storage = DTYPES[info.dtype].storage
        if info.dtype.startswith(("F", "BF")) or storage is None:
            return self._checkpoint.read_rows(name, start, stop)
        block = np.frombuffer(self._checkpoint.read_bytes(name, start, stop), dtype=storage)
        return block.reshape(stop - start, *info.shape[1:])

    def _within(self, name: str, block: int, start: int, stop: int, inner: int) -> Stored:
        """Rows of one block of a stack."""
        info = self._checkpoint.tensors[name]
        if info.dtype in _WIDE:
            return self._leading(name, block, block + 1).reshape(inner, -1)[start:stop]
        values = self._checkpoint.read_block(name, [block], start, stop)
        storage = DTYPES[info.dtype].storage
        return values if info.dtype.startswith(("F", "BF")) or storage is None else values.astype(storage)
