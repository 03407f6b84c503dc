"""The kinds of numbers in GGUF files: plain ones, and blocks of numbers that share their scales.

Numbers and sizes are those of ``enum ggml_type`` (ggml-org/llama.cpp, ggml/include/ggml.h) and of gguf-py's ``GGML_QUANT_SIZES``. The
blocks are decoded by the ``gguf`` package, which is imported when the first one is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from homolog.checkpoint.base import Array
from homolog.checkpoint.dtypes import DTYPES, DType, Raw

__all__ = ["KINDS"]

_PLAIN = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
_BLOCKS = {
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}
"""Number, name, numbers in a block, bytes of a block."""
_UNDECODED = {9: ("Q8_1", 32, 40), 15: ("Q8_K", 256, 292), 41: ("Q1_0", 128, 18)}
"""Named by llama.cpp and not decoded by the ``gguf`` package: the first two are for sums in memory and are never stored."""
_RUN = 64
"""Blocks decoded at once by the innermost loop of the ``gguf`` package, which takes sixteen such runs at a time."""


def _decoder(name: str) -> Callable[[Raw], Array]:
    def widen(raw: Raw) -> Array:
        from gguf.constants import GGMLQuantizationType  # noqa: PLC0415
        from gguf.quants import dequantize  # noqa: PLC0415

        kind = GGMLQuantizationType[name]
        blocks = np.ascontiguousarray(raw).view(np.uint8).reshape(raw.size, -1)
        whole = len(blocks) - len(blocks) % _RUN
        with np.errstate(all="ignore"):  # a scale that is Inf or NaN is the reader's business
            runs = dequantize(blocks[:whole].reshape(whole // _RUN, -1), kind) if whole else None
            rest = dequantize(blocks[whole:], kind) if whole < len(blocks) else None
        wide = np.concatenate([part.reshape(-1) for part in (runs, rest) if part is not None])
        return np.asarray(wide, dtype=np.float32).reshape(*raw.shape, -1)

    return widen


def _block(name: str, count: int, nbytes: int, *, readable: bool = True) -> DType:
    storage = np.dtype((np.void, nbytes)) if readable else None
    return DType(name, 8 * nbytes, storage, _decoder(name), count)


KINDS: Mapping[int, DType] = MappingProxyType(
    {
        **{number: DTYPES[name] for number, name in _PLAIN.items()},
        **{number: _block(*sizes) for number, sizes in _BLOCKS.items()},
        **{number: _block(*sizes, readable=False) for number, sizes in _UNDECODED.items()},
    }
)
"""Every kind that a file may name, by its number."""
