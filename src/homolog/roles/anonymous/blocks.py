"""The matrices of an anonymous checkpoint in memory: whole where the model is small, leading parts of each where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint

__all__ = ["Blocks"]

_SMALL = 1 << 25
"""Numbers of a model that is held whole while its roles are inferred."""
_ROWS = 256
_KEPT = 512
"""Of a larger model: stored rows that are read of each matrix, and rows and columns that are kept."""


class Blocks:
    """Reads each tensor once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._whole = checkpoint.parameters <= _SMALL
        self._held: dict[str, Array] = {}

    @property
    def whole(self) -> bool:
        """Whether matrices are read whole."""
        return self._whole

    def units(self, name: str, axis: int) -> Array:
        """A matrix with the units along ``axis`` as rows, float32, NaN and Inf as 0."""
        block = self._read(name)
        return block if axis == 0 else block.T

    def all_units(self, names: Sequence[str], axis: int) -> list[Array]:
        """Several matrices."""
        return [self.units(name, axis) for name in names]

    def vector(self, name: str) -> Array:
        """A vector, whole."""
        return np.nan_to_num(self._checkpoint.read_rows(name), posinf=0.0, neginf=0.0)

    def rows(self, name: str, count: int) -> Array:
        """Leading rows of a table."""
        stop = min(count, self._checkpoint.tensors[name].shape[0])
        return np.nan_to_num(self._checkpoint.read_rows(name, 0, stop), posinf=0.0, neginf=0.0)

    def height(self, name: str) -> int:
        """Stored rows of a table."""
        return self._checkpoint.tensors[name].shape[0]

    def forget(self) -> None:
        """Let go of all that is held."""
        self._held.clear()

    def _read(self, name: str) -> Array:
        if name not in self._held:
            rows = self._checkpoint.tensors[name].shape[0]
            block = self._checkpoint.read_rows(name, 0, rows if self._whole else min(rows, _ROWS))
            block = block if self._whole else np.ascontiguousarray(block[:_KEPT, :_KEPT])
            self._held[name] = np.nan_to_num(block, posinf=0.0, neginf=0.0)
        return self._held[name]
