"""What values say of a matrix, and of two matrices, without a name: statistics of one model that treat its units and channels alike.

None of them depends on which index a unit or a channel has, so that roles chosen by them leave every test of indices valid: relabelling
the units of a model relabels them in the roles too, and changes no choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = ["assign", "composition", "kinship", "log_norms", "profile_match", "sign_score", "unit_rows"]

_TINY = 1e-20
_MOST_ROWS = 2048
"""Rows whose signs are looked at: more tell nothing that these do not."""

Pairs = npt.NDArray[np.intp]


def log_norms(units: Array) -> Array:
    """Logarithm of the norm of each row."""
    squares: Array = np.einsum("ij,ij->i", units, units)
    return np.asarray(0.5 * np.log(squares + _TINY), dtype=np.float32)


def unit_rows(x: Array) -> Array:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    norms[norms == 0.0] = 1.0
    return np.asarray(x / norms, dtype=np.float32)


def sign_score(units: Array) -> float:
    """By how many standard deviations the sum of all rows is longer than with random signs.

    Turning the signs of a unit's up row and down column changes no function, and training treats both alike: the signs of up rows are
    independent and uniform, and so are those of values, of queries and of keys. A gate is bent at zero and knows no such symmetry.
    The moments are exact: with Gram matrix G, mean tr G and variance 2 Σ_{i≠j} G_ij².
    """
    units = units[:_MOST_ROWS]
    gram = units @ units.T
    diagonal = np.diag(gram).astype(np.float64)
    excess = float(gram.sum(dtype=np.float64) - diagonal.sum())
    variance = 2.0 * (float(np.square(gram, dtype=np.float64).sum()) - float(np.square(diagonal).sum()))
    return float(excess) / sqrt(variance) if variance > 0 else 0.0


def kinship(a: Array, b: Array) -> float:
    """How closely two sets of rows belong together, row by row: about 2 for strangers, growing with the number of rows else.

    The squares of two scores that are standard normal for unrelated rows: the correlation of log norms, either way round, and the mean
    squared cosine of row i with row i, if it is larger than chance.
    """
    units, channels = min(len(a), len(b)), min(a.shape[1], b.shape[1])
    a, b = a[:units], b[:units]
    x, y = log_norms(a), log_norms(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt(float(x @ x) * float(y @ y)))
    norms = np.sqrt(units) * float(x @ y) / size if size > 0 else 0.0
    cosines = np.einsum("ij,ij->i", unit_rows(a[:, :channels]), unit_rows(b[:, :channels]))
    content = (channels * float(np.square(cosines).mean()) - 1.0) * float(np.sqrt(units / 2.0))
    return float(norms**2 + max(content, 0.0) ** 2)


def profile_match(readers: Sequence[Array], gains: Sequence[Array]) -> Array:
    """Correlation of what readers make of the channels with gains of norms, shape (readers, gains).

    A reader's profile are the log norms of its columns; what all readers, and all gains, have in common is taken out first, because outlier
    channels are common to all.
    """
    channels = min(*(reader.shape[1] for reader in readers), *(len(gain) for gain in gains))
    x = np.stack([log_norms(reader[:, :channels].T) for reader in readers])
    y = np.stack([np.log(np.abs(gain[:channels]) + 1e-6) for gain in gains])
    return np.asarray(_standardise(x) @ _standardise(y).T, dtype=np.float32)


def composition(reader: Array, writer: Array) -> float:
    """How much of what ``writer`` writes ``reader`` reads: ‖R Wᵀ‖² d / (‖R‖² ‖W‖²), 1 for unrelated directions.

    Both have channels as columns.
    """
    channels = min(reader.shape[1], writer.shape[1])
    r, w = reader[:, :channels], writer[:, :channels]
    both = float(np.square(r, dtype=np.float64).sum()) * float(np.square(w, dtype=np.float64).sum())
    return float(np.sum((r.T @ r) * (w.T @ w), dtype=np.float64)) * channels / both if both > 0 else 0.0


def assign(scores: Array) -> tuple[Pairs, Array]:
    """One column for each row with the largest total score, and for each row its score over the best rival in its row or column.

    Needs at least as many columns as rows.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (slow to import, and most checkpoints have names)

    rows, columns = linear_sum_assignment(-scores)
    chosen = scores[rows, columns]
    rivals = scores.astype(np.float64).copy()
    rivals[rows, columns] = -np.inf
    best = np.maximum(rivals.max(axis=1), rivals.max(axis=0)[columns])
    margins = chosen - np.where(np.isfinite(best), best, 0.0)
    return columns, np.asarray(margins, dtype=np.float32)


def _standardise(x: Array) -> Array:
    x = x - x.mean(axis=0) if len(x) > 2 else x
    return unit_rows(x - x.mean(axis=1, keepdims=True))
