"""Writes GGUF files by hand, well-formed and not."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from homolog.checkpoint.gguf.blocks import KINDS

NUMBERS = {kind.name: number for number, kind in KINDS.items()}
"""The number of each kind, by its name."""
_LETTERS = {"B": 0, "b": 1, "H": 2, "h": 3, "I": 4, "i": 5, "f": 6, "?": 7, "Q": 10, "L": 10, "q": 11, "l": 11, "d": 12}


@dataclass(frozen=True)
class Stored:
    """One tensor as it is stored: the shape in numpy's order, and a kind by name or number."""

    name: str
    shape: tuple[int, ...]
    kind: str | int
    data: bytes


def text(value: str | bytes) -> bytes:
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(given: Any) -> bytes:
    """A value behind its kind: the smallest kind that fits, arrays for lists and numpy arrays."""
    kind, body = _value(given)
    return struct.pack("<I", kind) + body


def _value(given: Any) -> tuple[int, bytes]:
    match given:
        case bool():
            return 7, struct.pack("<?", given)
        case int():
            return (4, struct.pack("<I", given)) if 0 <= given < 1 << 32 else (11, struct.pack("<q", given))
        case float():
            return 6, struct.pack("<f", given)
        case str() | bytes():
            return 8, text(given)
        case np.ndarray():
            kind = _LETTERS[given.dtype.char]
            return 9, struct.pack("<IQ", kind, len(given)) + given.tobytes()
    parts = [_value(item) for item in given]
    kind = parts[0][0] if parts else 4
    assert all(other == kind for other, _ in parts), "an array holds one kind"
    return 9, struct.pack("<IQ", kind, len(parts)) + b"".join(body for _, body in parts)


def info(tensor: Stored, offset: int) -> bytes:
    kind = NUMBERS[tensor.kind] if isinstance(tensor.kind, str) else tensor.kind
    shape = struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape[::-1])
    return text(tensor.name) + struct.pack("<I", len(tensor.shape)) + shape + struct.pack("<IQ", kind, offset)


def encode_gguf(
    metadata: Mapping[str, Any],
    tensors: Sequence[Stored],
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    offsets: Sequence[int] | None = None,
    alignment: int = 32,
) -> bytes:
    """A file of metadata and tensors; ``counts`` (tensors, keys) and ``offsets`` may lie."""
    places: list[int] = []
    data = b""
    for tensor in tensors:
        places.append(len(data))
        data += tensor.data + bytes(-len(tensor.data) % alignment)
    stated = counts or (len(tensors), len(metadata))
    head = b"GGUF" + struct.pack("<IQQ", version, *stated)
    head += b"".join(text(key) + value(given) for key, given in metadata.items())
    head += b"".join(info(tensor, place) for tensor, place in zip(tensors, offsets or places, strict=True))
    return head + bytes(-len(head) % alignment) + data


def plain(name: str, array: np.ndarray[Any, Any], kind: str = "F32") -> Stored:
    """A tensor of plain numbers; an array of 16-bit integers stands for BF16."""
    return Stored(name, array.shape, kind, array.tobytes())
