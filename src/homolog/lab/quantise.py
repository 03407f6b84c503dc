"""Quantised and back: every matrix as a format of few bits keeps it, returned in full precision."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.registry import EVERY, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["FORMATS", "quantise"]

Array = npt.NDArray[np.float32]

_MOST_FP8 = 448.0
"""The largest number of E4M3."""

_NF4 = np.array(
    [
        -1.0,
        -0.6961928,
        -0.52507305,
        -0.39491749,
        -0.28444138,
        -0.18477343,
        -0.09105004,
        0.0,
        0.0795803,
        0.1609302,
        0.2461123,
        0.33791524,
        0.44070983,
        0.562617,
        0.72295684,
        1.0,
    ],
    dtype=np.float32,
)
"""The sixteen levels of NormalFloat4 (Dettmers et al. 2023, arXiv 2305.14314, appendix E)."""


@register(EVERY)
def quantise(shape: Shape, weights: Weights, *, format: str) -> Outcome:
    """Every matrix rounded to ``int8``, ``int4``, ``fp8`` or ``nf4`` and back; vectors stay as they are.

    int8 has one scale a row, int4 a scale and an offset for every 32 numbers of a row, fp8 (E4M3) a scale for every block of 32 × 32, nf4
    a scale for every 64 numbers of a row; a row that does not divide evenly ends in a shorter group.
    """
    if format not in FORMATS:
        raise UsageError(f"quantise: format {format!r}, expected one of {', '.join(FORMATS)}")
    rounded = {name: FORMATS[format](tensor) if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
    return Outcome(shape, rounded)


def _round_int8(matrix: Array) -> Array:
    scale = _safe(np.abs(matrix).max(axis=1, keepdims=True) / 127)
    return np.asarray(np.rint(matrix / scale) * scale, dtype=np.float32)


def _round_int4(matrix: Array) -> Array:
    def rounded(group: Array) -> Array:
        low, high = group.min(axis=1, keepdims=True), group.max(axis=1, keepdims=True)
        scale = _safe((high - low) / 15)
        return np.asarray(np.rint((group - low) / scale) * scale + low, dtype=np.float32)

    return _by_groups(matrix, 32, rounded)


def _round_nf4(matrix: Array) -> Array:
    edges = (_NF4[1:] + _NF4[:-1]) / 2

    def rounded(group: Array) -> Array:
        scale = _safe(np.abs(group).max(axis=1, keepdims=True))
        return np.asarray(_NF4[np.searchsorted(edges, group / scale)] * scale, dtype=np.float32)

    return _by_groups(matrix, 64, rounded)


def _round_fp8(matrix: Array, block: int = 32) -> Array:
    out = np.empty_like(matrix)
    for top in range(0, matrix.shape[0], block):
        for left in range(0, matrix.shape[1], block):
            here = np.s_[top : top + block, left : left + block]
            scale = float(np.abs(matrix[here]).max()) / _MOST_FP8 or 1.0
            out[here] = (matrix[here] / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    return out


def _by_groups(matrix: Array, size: int, rounded: Callable[[Array], Array]) -> Array:
    return np.concatenate(
        [rounded(matrix[:, start : start + size]) for start in range(0, matrix.shape[1], size)], axis=1
    )


def _safe(scale: Array) -> Array:
    return np.where(scale > 0, scale, 1)


FORMATS: dict[str, Callable[[Array], Array]] = {
    "int8": _round_int8,
    "int4": _round_int4,
    "fp8": _round_fp8,
    "nf4": _round_nf4,
}
