"""Numbers of few bits, packed: unpacking by shifts, and the small tables that give codes their values."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = ["E2M1", "E4M3", "Codes", "Stored", "decode_exponents", "unpack_nibbles", "unpack_words"]

Stored = np.ndarray[Any, Any]
Codes = npt.NDArray[np.uint8]

E2M1: Array = np.array(
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0], dtype=np.float32
)
"""The sixteen values of a four-bit float, by code (OCP Microscaling Formats 1.0, table 5)."""

with np.errstate(invalid="ignore"):
    E4M3: Array = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
"""The values of an eight-bit float, by code (OCP 8-bit Floating Point 1.0)."""

_POWERS: Array = np.append(np.exp2(np.arange(-127, 128, dtype=np.float64)), np.nan).astype(np.float32)

_EVEN = (1, 2, 4, 8)


def unpack_words(words: Stored, bits: int, count: int) -> Codes:
    """The first ``count`` codes of each row of 32-bit words, shape ``(rows, count)``.

    Codes lie one after the other from the lowest bit of the first word upwards and run on over the ends of words: the order of GPTQ,
    of compressed-tensors and of MLX.
    """
    rows = words.shape[0]
    packed = np.ascontiguousarray(words).view(np.uint8).reshape(rows, -1)
    if bits == 8:
        return packed[:, :count]
    if bits in _EVEN:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        spread = (packed[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
        return spread.reshape(rows, -1)[:, :count]
    single = np.unpackbits(packed, axis=1, count=count * bits, bitorder="little").reshape(rows, count, bits)
    return np.asarray(single @ (1 << np.arange(bits, dtype=np.uint8)), dtype=np.uint8)


def unpack_nibbles(packed: Stored, *, high_first: bool = False) -> Codes:
    """Two codes from each byte along the last axis, the low half first or the high half first."""
    low, high = packed & np.uint8(15), packed >> np.uint8(4)
    both = np.stack((high, low) if high_first else (low, high), axis=-1)
    return both.reshape(*packed.shape[:-1], -1)


def decode_exponents(exponents: Stored) -> Array:
    """Powers of two from E8M0: 2^(code − 127), and NaN for 255 (OCP Microscaling Formats 1.0, section 5.4.1)."""
    return _POWERS[exponents]
