"""Polar map of embeddings: the first step of MDIR (arXiv 2508.06309).

With E_A and E_B the embeddings of shared tokens, Ũ is the orthogonal factor of the polar decomposition of E_Aᵀ E_B. If B's channels are
A's, permuted, Ũ is close to a permutation, and the largest trace of P Ũ over permutations P, found by assignment, is far above what a
uniform orthogonal matrix gives; large-deviation theory turns it into a p-value. The paper's threshold is p < 2e-23.

Assumed here, because the text at hand does not settle it: the p-value is the union bound of `log10_polar_trace`; embeddings are not
centred; the smaller width counts where the widths differ, which makes p too large rather than too small. The second step, the same map
inside every layer, is not taken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from homolog.arena.methods.base import Method, Model, shared_tokens
from homolog.arena.methods.pvalues import log10_polar_trace
from homolog.checkpoint.base import Array

__all__ = ["POLAR", "largest_trace", "polar_factor"]


def polar_factor(a: Array, b: Array) -> npt.NDArray[np.float64]:
    """The partial isometry closest to ``aᵀ b``, shape ``(channels of A, channels of B)``."""
    u, _, vt = np.linalg.svd(a.T.astype(np.float64) @ b.astype(np.float64), full_matrices=False)
    return np.asarray(u @ vt)


def largest_trace(matrix: npt.NDArray[np.float64]) -> float:
    """The largest sum of entries that can be chosen, one in every row and column."""
    return float(matrix[linear_sum_assignment(-matrix)].sum())


def _minus_log10_p(a: Model, b: Model) -> float:
    tokens_a, tokens_b = shared_tokens(a, b)
    factor = polar_factor(a.embedding()[tokens_a], b.embedding()[tokens_b])
    return -log10_polar_trace(largest_trace(factor), min(factor.shape))


POLAR = Method(
    name="polar-embeddings",
    citation="Zhang & Goldstein 2025, MDIR (its first step), arXiv 2508.06309",
    access="weights and tokenizer",
    statistic="-log10 p of the trace",
    compute=_minus_log10_p,
    own_threshold=22.7,
    threshold_source="the paper: p < 2e-23",
    is_p_value=True,
)
