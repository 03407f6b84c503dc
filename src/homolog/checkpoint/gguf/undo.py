"""What llama.cpp's converter did to the weights, undone on reading, so that units have the numbers and the order they have on a hub.

Read in the converter that the sources of llama-cpp-python 0.3.36 carry (vendor/llama.cpp/conversion/, before that one file,
convert_hf_to_gguf.py of ggml-org/llama.cpp):

* llama.py, ``LlamaModel.permute``: rotary pairs are stored side by side, ``(heads, 2, d/2)`` becomes ``(heads, d/2, 2)``; the same in
  arctic, baichuan, bailingmoe, chameleon, deci, deepseek (of the first generation), internlm, llada, minicpm, olmo and xverse, and in what
  inherits from it: arcee, granite, granitemoe, nanbeige, smollm3, llama-embed. Not so apertus, llama4 and afmoe.
* gemma.py, nemotron.py, ``+ 1``: norms that multiply by one plus the weight are stored as the sum; not so gemma3n and gemma4.
* deepseek.py, ``DeepseekV2Model.modify_tensors``: latent attention's ``kv_b`` is cut into ``attn_v_b``, heads × values × latent, and
  ``attn_k_b``, whose heads are turned: heads × latent × keys. Both are read as units × latent, head by head. A fork that stores them in
  two axes (ik_llama.cpp) puts the heads one below the other.

Everything else the converter does keeps the order of units: experts are stacked, queries, keys and values are put one after the other,
Conv1D matrices are turned to output × input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array, Checkpoint, TensorInfo

__all__ = ["Unconverted", "Undo", "plan_undoing", "undo_conversion"]

_INTERLEAVED = frozenset(
    [
        *("llama", "arcee", "granite", "granitemoe", "granitehybrid", "llama-embed", "nanbeige", "smollm3"),
        *("arctic", "baichuan", "bailingmoe", "chameleon", "deci", "deepseek", "internlm2", "llada", "minicpm", "olmo"),
        "xverse",
    ]
)
_ONE_ADDED = frozenset(["gemma", "gemma2", "gemma3", "gemma-embedding", "nemotron"])
_BLOCK_NUMBERS = 1 << 21
"""Numbers in one block of a read that needs columns: 8 MB as float32."""


@dataclass(frozen=True, slots=True)
class Undo:
    """What to undo in one tensor."""

    heads: int = 0
    """Heads whose rows are stored in interleaved halves; 0 for none."""
    added: float = 0.0
    """What was added to every number."""
    stack: tuple[int, int, int] = (0, 0, 0)
    """Heads, units of each and their length, where heads are stored one by one; zeros where they are not."""
    turned: bool = False
    """Whether each head of a stack is stored turned, length × units."""

    def order(self, rows: int) -> npt.NDArray[np.int64]:
        """For each row of the original where it is stored."""
        half = rows // self.heads // 2
        stored = np.arange(rows, dtype=np.int64).reshape(self.heads, half, 2)
        return stored.transpose(0, 2, 1).reshape(-1)


def plan_undoing(metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Undo]:
    """By tensor, for a file of this metadata."""
    architecture = metadata.get("general.architecture")
    undoing: dict[str, Undo] = {}
    if architecture in _ONE_ADDED:
        undoing = {name: Undo(added=1.0) for name in shapes if name.endswith("norm.weight")}
    if architecture in _INTERLEAVED:
        queries = metadata.get(f"{architecture}.attention.head_count")
        keys = metadata.get(f"{architecture}.attention.head_count_kv", queries)
        for name, shape in shapes.items():
            segments = name.split(".")
            if len(segments) != 4 or segments[0] != "blk" or segments[2] not in ("attn_q", "attn_k"):
                continue
            heads = _heads_of(queries if segments[2] == "attn_q" else keys, segments[1])
            if heads and segments[3] in ("weight", "bias") and len(shape) <= 2 and shape and not shape[0] % (2 * heads):
                undoing[name] = Undo(heads=heads)
    heads = _heads_of(metadata.get(f"{architecture}.attention.head_count"), "0")
    undoing |= {name: undo for name, shape in shapes.items() if (undo := _plan_latent(name, shape, heads))}
    return undoing


def _plan_latent(name: str, shape: tuple[int, ...], heads: int) -> Undo | None:
    """Of latent attention the keys and values that are stored head by head; ``None`` for all else, and where the heads are not known."""
    segments = name.split(".")
    if len(segments) != 4 or (segments[0], segments[3]) != ("blk", "weight") or 0 in shape:
        return None
    turned = segments[2] == "attn_k_b"
    if len(shape) == 3 and segments[2] in ("attn_k_b", "attn_v_b"):
        rows, columns = shape[1:]
        return Undo(stack=(shape[0], columns, rows) if turned else (shape[0], rows, columns), turned=turned)
    if len(shape) == 2 and turned and heads and shape[0] % heads == 0:
        return Undo(stack=(heads, shape[1], shape[0] // heads), turned=True)
    return None


def undo_conversion(checkpoint: Checkpoint, metadata: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint as it was before it was converted, as far as its metadata tell."""
    undoing = plan_undoing(metadata, {name: info.shape for name, info in checkpoint.tensors.items()})
    return Unconverted(checkpoint, undoing) if undoing else checkpoint


def _heads_of(stated: Any, layer: str) -> int:
    """A number for all layers, or a list of numbers by layer."""
    if isinstance(stated, np.ndarray) and layer.isdecimal() and len(layer) < 6 and int(layer) < len(stated):
        stated = int(stated[int(layer)])
    return stated if type(stated) is int and stated > 0 else 0


class Unconverted(Checkpoint):
    """The tensors of ``inner`` as they were before the conversion."""

    def __init__(self, inner: Checkpoint, undoing: Mapping[str, Undo]) -> None:
        self.path, self.format, self.config = inner.path, inner.format, inner.config
        self.tensors = {name: _as_it_was(info, undoing.get(name, _NOTHING)) for name, info in inner.tensors.items()}
        self.files, self.folder, self.meter, self.notes = inner.files, inner.folder, inner.meter, inner.notes
        self.tokenizer = inner.tokenizer
        self._inner = inner
        self._undoing = undoing

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_rows`."""
        undo = self._undoing.get(name, _NOTHING)
        if undo.heads or undo.stack[0]:
            return self.read_rows_at(name, self._check(name, start, stop))
        return _subtract(self._inner.read_rows(name, start, stop), undo)

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """As `Checkpoint.read_rows_at`."""
        undo = self._undoing.get(name, _NOTHING)
        if undo.heads or undo.stack[0]:
            rows = self.tensors[name].shape[0]
            wanted = np.asarray(ids, dtype=np.int64).reshape(-1)
            if len(wanted) and not 0 <= wanted.min() <= wanted.max() < rows:
                raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {name}, which has {rows}")
            if undo.stack[0]:
                return self._read_stack(name, undo, wanted)
            return self._inner.read_rows_at(name, undo.order(rows)[wanted].tolist())
        return _subtract(self._inner.read_rows_at(name, ids), undo)

    def read_block(self, name: str, index: Sequence[int], start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_block`; stacks are stored as they were."""
        if name in self._undoing:
            return super().read_block(name, index, start, stop)
        return self._inner.read_block(name, index, start, stop)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """As `Checkpoint.read_bytes`: rows as stored, in the order that they had; what was added to numbers stays in their bytes."""
        undo = self._undoing.get(name, _NOTHING)
        if not (undo.heads or undo.stack[0]):
            return self._inner.read_bytes(name, start, stop)
        wanted, shape = self._check(name, start, stop), self.tensors[name].shape
        if undo.stack[0]:
            # a turned head has no rows of bytes: as many equal pieces of what is stored as there are rows
            stored = self._inner.read_bytes(name)
            return stored[len(stored) * wanted.start // shape[0] : len(stored) * wanted.stop // shape[0]]
        # rows trade places inside their head only; numbers of a vector may share blocks, so it is read whole
        head = shape[0] // undo.heads if len(shape) > 1 else shape[0]
        low, high = wanted.start // head * head, -(-wanted.stop // head) * head
        if not wanted:
            return b""
        stored = self._inner.read_bytes(name, low, high)
        rows = np.frombuffer(stored, dtype=np.uint8).reshape(high - low, -1)
        return rows[undo.order(shape[0])[wanted.start : wanted.stop] - low].tobytes()

    def read_stored(self, name: str, most: int) -> Iterator[bytes]:
        """As `Checkpoint.read_stored`; heads that are stored one by one as they are stored."""
        if self._undoing.get(name, _NOTHING).stack[0]:
            return self._inner.read_stored(name, most)
        return super().read_stored(name, most)

    def stored_order(self) -> tuple[str, ...]:
        """As `Checkpoint.stored_order`."""
        return self._inner.stored_order()

    def locate(self, name: str) -> Path:
        """As `Checkpoint.locate`."""
        return self._inner.locate(name)

    def close(self) -> None:
        """Release the files."""
        self._inner.close()

    def _read_stack(self, name: str, undo: Undo, wanted: npt.NDArray[np.int64]) -> Array:
        """Rows of heads that are stored one by one; a turned head is read whole, in blocks."""
        _, units, length = undo.stack
        out = np.empty((len(wanted), length), dtype=np.float32)
        heads, within = np.divmod(wanted, units)
        for head in np.unique(heads).tolist():
            places = np.flatnonzero(heads == head)
            rows = within[places]
            if undo.turned:
                step = max(1, _BLOCK_NUMBERS // units)
                for low in range(0, length, step):
                    high = min(low + step, length)
                    out[places, low:high] = self._read_head(name, head, low, high)[:, rows].T
            else:
                first = int(rows.min())
                out[places] = self._read_head(name, head, first, int(rows.max()) + 1)[rows - first]
        return out

    def _read_head(self, name: str, head: int, start: int, stop: int) -> Array:
        shape = self._inner.tensors[name].shape
        if len(shape) == 3:
            return self._inner.read_block(name, (head,), start, stop)
        length = shape[0] // self._undoing[name].stack[0]
        return self._inner.read_rows(name, head * length + start, head * length + stop)

    def _check(self, name: str, start: int, stop: int | None) -> range:
        rows = self.tensors[name].shape[0]
        stop = rows if stop is None else stop
        if not 0 <= start <= stop <= rows:
            raise IndexError(f"rows {start}:{stop} of {name}, which has {rows}")
        return range(start, stop)


_NOTHING = Undo()


def _as_it_was(info: TensorInfo, undo: Undo) -> TensorInfo:
    heads, units, length = undo.stack
    return replace(info, shape=(heads * units, length)) if heads else info


def _subtract(block: Array, undo: Undo) -> Array:
    return np.asarray(block - np.float32(undo.added), dtype=np.float32) if undo.added else block
