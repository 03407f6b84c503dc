"""The number formats of checkpoints, each with its width and its way to float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import ml_dtypes
import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = ["DTYPES", "DType"]

Raw = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class DType:
    """One number format, in the spelling of safetensors, or of ggml where numbers come in blocks."""

    name: str
    bits: int
    """Of one stored item: a number, or a block of them."""
    storage: np.dtype[np.generic] | None
    """What one stored item is to numpy; ``None`` where homolog can name the format but not read it."""
    widen: Callable[[Raw], Array]
    """Stored numbers to float32, same shape; blocks of them to one more axis, of ``block`` numbers."""
    block: int = 1
    """Numbers along the last axis that are stored as one item."""

    @property
    def itemsize(self) -> int:
        """Bytes of one item; only for formats of whole bytes."""
        return self.bits // 8


def _cast(raw: Raw) -> Array:
    # F64 beyond the range of float32 becomes Inf; signalling NaN stays NaN. Both are the reader's business, not a warning.
    with np.errstate(all="ignore"):
        wide: Array = raw.astype(np.float32, copy=False)
    return wide


def _truth(raw: Raw) -> Array:
    truth: Array = (raw != 0).astype(np.float32)
    return truth


def _widen_bf16(raw: Raw) -> Array:
    wide = raw.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _by_table(kind: type) -> Callable[[Raw], Array]:
    """One byte a number: look the 256 possible values up."""
    with np.errstate(all="ignore"):
        table = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)

    def widen(raw: Raw) -> Array:
        return np.asarray(table[raw.view(np.uint8)], dtype=np.float32)

    return widen


def _numpy(name: str, storage: str) -> DType:
    kind: np.dtype[np.generic] = np.dtype(storage)
    return DType(name, 8 * kind.itemsize, kind, _cast)


def _float8(name: str, kind: type) -> DType:
    return DType(name, 8, np.dtype("u1"), _by_table(kind))


def _named_only(name: str, bits: int) -> DType:
    return DType(name, bits, None, _cast)


_ALL = (
    _numpy("F64", "<f8"),
    _numpy("F32", "<f4"),
    _numpy("F16", "<f2"),
    DType("BF16", 16, np.dtype("<u2"), _widen_bf16),
    _float8("F8_E4M3", ml_dtypes.float8_e4m3fn),
    _float8("F8_E5M2", ml_dtypes.float8_e5m2),
    _float8("F8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz),
    _float8("F8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz),
    _float8("F8_E8M0", ml_dtypes.float8_e8m0fnu),
    _numpy("I8", "i1"),
    _numpy("I16", "<i2"),
    _numpy("I32", "<i4"),
    _numpy("I64", "<i8"),
    _numpy("U8", "u1"),
    _numpy("U16", "<u2"),
    _numpy("U32", "<u4"),
    _numpy("U64", "<u8"),
    DType("BOOL", 8, np.dtype("u1"), _truth),
    _named_only("F4", 4),
    _named_only("F6_E2M3", 6),
    _named_only("F6_E3M2", 6),
    _named_only("C64", 64),
    _named_only("C128", 128),
)

DTYPES: Mapping[str, DType] = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every known format by name."""
