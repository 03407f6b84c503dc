"""A checkpoint in memory: the test double of everything that reads roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array, Checkpoint, Meter, TensorInfo

__all__ = ["MemoryCheckpoint", "of_shapes"]


class MemoryCheckpoint(Checkpoint):
    """Tensors from arrays; the meter counts what a file would have been asked for."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], config: Mapping[str, Any] | None = None) -> None:
        self.path = Path("memory")
        self.format = "safetensors"
        self.arrays = dict(arrays)
        self.tensors = {
            name: TensorInfo(name, array.shape, _dtype(array), array.nbytes)
            for name, array in sorted(self.arrays.items())
        }
        self.config = dict(config or {})
        self.files = ()
        self.folder = None
        self.meter = Meter()
        self.notes = ()

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        array = np.atleast_1d(self.arrays[name])
        stop = len(array) if stop is None else stop
        if not 0 <= start <= stop <= len(array):
            raise IndexError(f"{name}: rows {start}:{stop} of {len(array)}")
        self.meter.record(name, start, array[start:stop].tobytes())
        return array[start:stop].astype(np.float32)

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        array = np.atleast_1d(self.arrays[name])
        for row in ids:
            self.meter.record(name, row, array[row : row + 1].tobytes())
        return array[list(ids)].astype(np.float32)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        return bytes(np.atleast_1d(self.arrays[name])[start:stop].tobytes())

    def close(self) -> None:
        """Nothing to release."""


def of_shapes(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any] | None = None) -> MemoryCheckpoint:
    """A checkpoint of these names and shapes, its values all different; no memory is taken twice for equal shapes."""
    return MemoryCheckpoint({name: _numbers(tuple(shape)) for name, shape in shapes.items()}, config)


def _numbers(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def _dtype(array: npt.NDArray[Any]) -> str:
    return {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[array.dtype.kind] + (
        "" if array.dtype.kind == "b" else str(8 * array.dtype.itemsize)
    )
