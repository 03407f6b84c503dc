"""A checkpoint that keeps what it has read of the layer at hand, so that small models are read once though looked at twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homolog.checkpoint.base import Array, Checkpoint

__all__ = ["HeldCheckpoint"]


class HeldCheckpoint(Checkpoint):
    """Reads whole tensors of ``inner`` and keeps them until `forget` is called."""

    def __init__(self, inner: Checkpoint) -> None:
        self.path, self.format, self.tensors, self.config = inner.path, inner.format, inner.tensors, inner.config
        self.files, self.folder, self.meter, self.notes = inner.files, inner.folder, inner.meter, inner.notes
        self._inner = inner
        self._kept: dict[str, Array] = {}

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_rows`; what is returned must not be written to."""
        if name not in self._kept:
            self._kept[name] = self._inner.read_rows(name)
        whole = self._kept[name]
        stop = len(whole) if stop is None else stop
        if not 0 <= start <= stop <= len(whole):
            raise IndexError(f"{name}: rows {start}:{stop} of {len(whole)}")
        return whole[start:stop]

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """As `Checkpoint.read_rows_at`, straight from the file unless the tensor is kept: embeddings are sampled."""
        return self._kept[name][list(ids)] if name in self._kept else self._inner.read_rows_at(name, ids)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """As `Checkpoint.read_bytes`, straight from the file."""
        return self._inner.read_bytes(name, start, stop)

    def locate(self, name: str) -> Path:
        """As `Checkpoint.locate`."""
        return self._inner.locate(name)

    def forget(self) -> None:
        """Let go of everything kept."""
        self._kept.clear()

    def close(self) -> None:
        """Release the files."""
        self.forget()
        self._inner.close()
