"""A base model with a LoRA added to it, row by row as it is read: the merged model, which is never made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from homolog.checkpoint.adapters import Adapter, Change, fits
from homolog.checkpoint.base import Array, Checkpoint, TensorInfo
from homolog.checkpoint.wording import list_names
from homolog.errors import MalformedCheckpoint, UnsupportedFormat

__all__ = ["MergedCheckpoint"]


class MergedCheckpoint(Checkpoint):
    """``W + s · B · A`` in the place of each changed matrix, whole tensors of the adapter in the place of the base's.

    Of DoRA, rows are brought to their stored norms. The thin matrix that all rows share is read with the first of them and kept until
    another matrix is read. Raises ``MalformedCheckpoint`` for an adapter that does not fit the base.
    """

    def __init__(self, base: Checkpoint, adapter: Adapter) -> None:
        self.path, self.format, self.config = base.path, base.format, base.config
        self.files = (*base.files, *adapter.checkpoint.files)
        self.folder, self.meter, self.tokenizer = base.folder, base.meter, base.tokenizer
        self._base, self._adapter, self._stored = base, adapter, adapter.checkpoint
        self._kept: tuple[str, Array] = ("", np.empty((0, 0), dtype=np.float32))
        self._saved = {self._spell(name): stored for name, stored in adapter.saved.items()}
        self._changes = {self._spell(name): change for name, change in adapter.changes.items()}
        tensors = dict(base.tensors)
        tensors.update((name, replace(self._stored.tensors[stored], name=name)) for name, stored in self._saved.items())
        self._crosswise = {name: self._check(tensors.get(name), name, change) for name, change in self._changes.items()}
        tensors.update((name, self._describe(tensors[name], change)) for name, change in self._changes.items())
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(dict(sorted(tensors.items())))
        declared = f"; it declares {list_names([adapter.base])} as its base" if adapter.base else ""
        self.notes = (*base.notes, f"an adapter is merged on reading: {adapter.describe()}{declared}")

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_rows`, merged."""
        model, stored = self._under(name)
        rows = model.read_rows(stored, start, stop)
        return self._merge(name, rows, np.arange(start, start + len(rows))) if name in self._changes else rows

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """As `Checkpoint.read_rows_at`, merged."""
        model, stored = self._under(name)
        rows = model.read_rows_at(stored, ids)
        return self._merge(name, rows, np.asarray(ids, dtype=np.int64)) if name in self._changes else rows

    def read_block(self, name: str, index: Sequence[int], start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_block`; stacks are never changed."""
        if name in self._changes:
            return super().read_block(name, index, start, stop)
        model, stored = self._under(name)
        return model.read_block(stored, index, start, stop)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """As `Checkpoint.read_bytes`; of a merged matrix the numbers as float32."""
        if name in self._changes:
            return self.read_rows(name, start, stop).astype("<f4", copy=False).tobytes()
        model, stored = self._under(name)
        return model.read_bytes(stored, start, stop)

    def read_stored(self, name: str, most: int) -> Iterator[bytes]:
        """As `Checkpoint.read_stored`; of a merged matrix the numbers as float32."""
        if name in self._changes:
            return super().read_stored(name, most)
        model, stored = self._under(name)
        return model.read_stored(stored, most)

    def locate(self, name: str) -> Path:
        """The file that holds a tensor, or the base's part of it."""
        model, stored = self._under(name)
        return model.locate(stored)

    def close(self) -> None:
        """Release the files of both."""
        self._stored.close()
        self._base.close()

    def _under(self, name: str) -> tuple[Checkpoint, str]:
        """What the change is added to: a whole tensor of the adapter, or the base's."""
        stored = self._saved.get(name)
        return (self._base, name) if stored is None else (self._stored, stored)

    def _spell(self, name: str) -> str:
        """The base's own name: libraries put the body of a model below another name than its published files do."""
        known = self._base.tensors
        for spelling in (name, name.partition(".")[2], f"model.{name}", f"transformer.{name}"):
            if spelling in known:
                return spelling
        return name

    def _merge(self, name: str, rows: Array, ids: np.ndarray) -> Array:
        change, stored = self._changes[name], self._stored
        if self._crosswise[name]:
            left = self._whole(change.a)[:, ids].T
            right = stored.read_rows(change.b).T
        else:
            left = stored.read_rows_at(change.b, ids.tolist())
            right = self._whole(change.a)
        with np.errstate(all="ignore"):  # NaN and Inf come through as they are
            merged = rows + (left @ right) * np.float32(change.scale)
            if change.magnitude:
                norms = stored.read_rows(change.magnitude).reshape(-1)[ids]
                merged *= (norms / np.linalg.norm(merged, axis=1))[:, None]
        return np.asarray(merged, dtype=np.float32)

    def _whole(self, name: str) -> Array:
        if self._kept[0] != name:
            self._kept = (name, self._stored.read_rows(name))
        return self._kept[1]

    def _check(self, info: TensorInfo | None, name: str, change: Change) -> bool:
        """Whether the rows of the matrix are the adapter's inputs."""
        path, at = self._stored.files[0], f"tensor {name}"
        if info is None or not fits(info, change):
            found = "no such tensor in the base" if info is None else f"shape {list(info.shape)} in the base"
            expected = f"the {change.outputs} × {change.inputs} that the adapter changes"
            raise MalformedCheckpoint(path, at=at, found=found, expected=expected)
        crosswise = change.embedding or info.transposed != self._adapter.fan_in_fan_out
        wanted = (change.inputs, change.outputs) if crosswise else (change.outputs, change.inputs)
        if info.shape != wanted:
            found, expected = f"shape {list(info.shape)} in the base", f"{list(wanted)}, as fan_in_fan_out says"
            raise MalformedCheckpoint(path, at=at, found=found, expected=expected)
        if crosswise and change.magnitude:
            expected = "outputs as rows, whose norms can be taken one by one"
            raise UnsupportedFormat(path, at=at, found="DoRA over inputs as rows", expected=expected)
        return crosswise

    def _describe(self, info: TensorInfo, change: Change) -> TensorInfo:
        nbytes = info.nbytes + sum(self._stored.tensors[part].nbytes for part in (change.a, change.b))
        return TensorInfo(info.name, info.shape, "F32", nbytes, transposed=info.transposed)
