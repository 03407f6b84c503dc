"""Spectra: GhostSpec's singular values of W_Q W_Kᵀ and W_V W_O (arXiv 2511.06390, AAAI 2026).

For each layer the singular values of the two products, which no permutation, rotation or rescaling inside the heads changes; models are
compared by the mean squared difference of their normalised spectra over aligned layers. The value is -log10 of that.

Assumed here, because the text at hand does not settle it: spectra are truncated to the smaller rank and scaled to length 1; if the depths
differ, layers are aligned in order, the shallower model's into the deeper's, at the least total difference (the paper's POSA adds a
penalty). The variant by correlation is not taken: raw spectra of unrelated models correlate at 0.95 to 0.99.
"""

from __future__ import annotations

from math import log10

import numpy as np
import numpy.typing as npt

from homolog.arena.methods.base import Method, Model
from homolog.checkpoint.base import Array

__all__ = ["SPECTRA", "align_in_order", "spectral_difference", "spectrum"]

Matrix = npt.NDArray[np.float64]

_EXACT = 1e-16
"""Copies have no difference at all; the logarithm ends here."""


def spectrum(left: Array, right: Array) -> Matrix:
    """Singular values of ``leftᵀ right``, descending; both are ``(head dimensions, residual)``."""
    # with QR decompositions of the two transposes only the small middle factor needs the decomposition
    first, second = (np.asarray(np.linalg.qr(side.T.astype(np.float64), mode="r")) for side in (left, right))
    return np.asarray(np.linalg.svd(first @ second.T, compute_uv=False))


def spectral_difference(a: Matrix, b: Matrix) -> float:
    """Mean squared difference of two spectra, truncated to the smaller length and scaled to norm 1."""
    rank = min(len(a), len(b))
    first, second = (values[:rank] / (np.linalg.norm(values[:rank]) or 1.0) for values in (a, b))
    return float(((first - second) ** 2).mean())


def align_in_order(cost: Matrix) -> list[tuple[int, int]]:
    """The pairs of least total cost that keep the order and use every row; there are at least as many columns as rows."""
    rows, columns = cost.shape
    best = np.full((rows + 1, columns + 1), np.inf)
    best[0] = 0.0
    for i in range(1, rows + 1):
        for j in range(i, columns + 1):
            best[i, j] = min(best[i, j - 1], best[i - 1, j - 1] + cost[i - 1, j - 1])
    pairs, j = [], columns
    for i in range(rows, 0, -1):
        while best[i, j - 1] <= best[i, j]:
            j -= 1
        pairs.append((i - 1, j - 1))
        j -= 1
    return pairs[::-1]


def _spectra(model: Model) -> list[tuple[Matrix, Matrix]]:
    out = []
    for layer in range(model.layers):
        q, k, v, o = (model.attention(kind, layer) for kind in "qkvo")
        out.append((spectrum(q, k), spectrum(v, o)))
    return out


def _closeness(a: Model, b: Model) -> float:
    shallow, deep = sorted((_spectra(a), _spectra(b)), key=len)
    cost = np.array(
        [[np.mean([spectral_difference(x, y) for x, y in zip(s, d, strict=True)]) for d in deep] for s in shallow]
    )
    pairs = [(i, i) for i in range(len(deep))] if len(shallow) == len(deep) else align_in_order(cost)
    return -log10(max(_EXACT, float(np.mean([cost[pair] for pair in pairs]))))


SPECTRA = Method(
    name="spectra",
    citation="Wang et al. 2025, Ghost in the Transformer (GhostSpec), arXiv 2511.06390",
    access="weights",
    statistic="-log10 of the mean squared difference of spectra",
    compute=_closeness,
)
