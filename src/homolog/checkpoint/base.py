"""What every checkpoint offers, whatever its format: a table of tensors, and ranged reads of their leading axis."""

from __future__ import annotations

import builtins
import hashlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from homolog.checkpoint.remote import Remote

__all__ = ["Array", "Checkpoint", "Meter", "TensorInfo", "TokenTable"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the file declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """In the spelling of safetensors: ``F32``, ``BF16``, ``F8_E4M3``, ``I8``, ``BOOL`` …; of ggml for its blocks: ``Q4_K``."""
    nbytes: int
    lattice: str = ""
    """How the numbers are kept where they are decoded on reading, in words: ``int4, a scale for every 128 numbers``; else empty."""
    transposed: bool = False
    """Whether the last two axes are stored in the reverse of the order that the tensor's name promises (GPTQ, AWQ)."""

    @property
    def real(self) -> bool:
        """Whether it is read as real numbers: stored as such, or decoded to them."""
        return bool(self.lattice) or self.dtype.startswith(("F", "BF"))

    @property
    def size(self) -> int:
        """How many numbers the tensor holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The tokenizer that lies in a weight file (GGUF)."""

    model: str
    """How ids are found: ``gpt2`` (byte-level BPE), ``llama`` (SentencePiece), ``bert`` …"""
    tokens: Sequence[bytes]
    """By id, in the spelling of the tokenizer, mostly UTF-8."""
    kinds: npt.NDArray[np.int64] | None
    """For each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 a byte; ``None`` if the file does not say."""
    merges: Sequence[bytes] | None
    """Pairs of tokens with a blank between them, in the order in which they are applied."""


@dataclass(slots=True)
class Meter:
    """What was read so far: bytes, requests, and a running digest of every range with its bytes."""

    bytes: int = 0
    requests: int = 0
    sizes: dict[Path, int] = field(default_factory=dict)
    """Bytes of every file that was opened."""
    remote: Remote | None = None
    """What fetches the files, if they are not on this machine."""
    digesting: bool = True
    """Whether ranges go into the running digest: not where every byte is digested anyway, which takes as long again."""
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)
    _ranges: dict[str, array[int]] = field(default_factory=dict, repr=False)
    """By file, start and end of every range in reading order."""

    def record(self, where: str, start: int, block: builtins.bytes | memoryview) -> None:
        """Count one range that was read."""
        self.bytes += len(block)
        self.requests += 1
        self._ranges.setdefault(where, array("q")).extend((start, start + len(block)))
        if not self.digesting:
            return
        self._digest.update(f"{where}\0{start}\0{len(block)}\0".encode())
        self._digest.update(block)

    def hexdigest(self) -> str:
        """SHA-256 over all ranges read so far while it was `digesting`, in reading order."""
        return str(self._digest.hexdigest())

    def count_distinct(self, where: Iterable[str]) -> int:
        """Bytes of the files named ``where`` that were read at least once; what was read again counts once."""
        total = 0
        for name in set(where):
            ranges, reached = self._ranges.get(name, array("q")), 0
            for start, end in sorted(zip(ranges[::2], ranges[1::2], strict=True)):
                total += max(0, end - max(start, reached))
                reached = max(reached, end)
        return total


class Checkpoint(ABC):
    """An opened checkpoint. It never holds a model: every read fetches just the rows that were asked for."""

    path: Path
    """What the user named: a file or a folder."""
    format: str
    """``safetensors``, ``gguf``, ``torch-zip`` or ``torch-legacy``."""
    tensors: Mapping[str, TensorInfo]
    """By name, sorted."""
    config: Mapping[str, Any]
    """The parsed ``config.json`` beside the weights, or what a GGUF file says in its place; empty if there is none."""
    files: tuple[Path, ...]
    """The weight files, in reading order."""
    folder: Path | None
    """The folder whose side files (config, tokenizer) belong to the weights; ``None`` if there is none."""
    meter: Meter
    notes: tuple[str, ...]
    """What the reader chose or passed over, in plain words."""
    tokenizer: TokenTable | None = None
    """The tokenizer inside the weight file, where the format has a place for one."""

    @abstractmethod
    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start:stop`` of the leading axis as float32, shape ``(stop - start, *shape[1:])``.

        A scalar is read as shape ``(1,)``. NaN and Inf come through as they are.

        Raises ``KeyError`` for an unknown name, ``IndexError`` for rows outside the tensor and ``CheckpointError`` where the bytes
        cannot be had.
        """

    @abstractmethod
    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """The rows ``ids`` of the leading axis as float32, in the order asked for; neighbouring rows are read as one range."""

    def read_block(self, name: str, index: Sequence[int], start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start:stop`` of ``tensor[index]`` as float32: one expert of a stack, read without its neighbours where the format can.

        ``index`` picks along the leading axes, at least one. Raises as `read_rows`.
        """
        block = self.read_rows(name, index[0], index[0] + 1)[0]
        for number in index[1:]:
            block = block[number]
        block = np.atleast_1d(block)
        stop = len(block) if stop is None else stop
        if not 0 <= start <= stop <= len(block):
            raise IndexError(f"rows {start}:{stop} of a block of {name}, which has {len(block)}")
        return block[start:stop]

    @abstractmethod
    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Rows ``start:stop`` of the leading axis as stored, row-major and little-endian: for comparing bit by bit."""

    def read_stored(self, name: str, most: int) -> Iterator[bytes]:
        """All bytes of a tensor as stored, in blocks of whole rows, of about ``most`` bytes where rows are no longer.

        Of a matrix that is decoded from several stored tensors (codes, scales, zeros), those of each, by name.
        """
        info = self.tensors[name]
        rows = info.shape[0] if info.shape else 1
        step = max(1, most * rows // max(info.nbytes, 1))
        for start in range(0, rows if prod(info.shape) else 0, step):
            yield self.read_bytes(name, start, min(start + step, rows))

    def stored_order(self) -> tuple[str, ...]:
        """The tensors in the order in which the files list them, as far as the reader knows it; else by name."""
        return tuple(self.tensors)

    def locate(self, name: str) -> Path:
        """The file that holds a tensor, for errors to name."""
        return self.path

    @abstractmethod
    def close(self) -> None:
        """Release the files."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(info.nbytes for info in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together, as stored."""
        return sum(info.size for info in self.tensors.values())

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
