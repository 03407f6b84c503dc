"""Logarithms of p-values that are too small for floating point."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log, log1p

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln, hyp2f1

__all__ = ["log10_fisher", "log10_permutation", "log10_polar_trace"]

_LN10 = log(10)


def log10_permutation(order: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Spearman's correlation of a permutation with the identity, and log10 of its two-sided p.

    By Student's t with n - 2 degrees of freedom, which in the tail is an approximation; p is never put below 2/n!, because no permutation
    is rarer than the identity. Fewer than three items have p = 1.
    """
    n = len(order)
    if n < 3:
        return 0.0, 0.0
    correlation = 1.0 - 6.0 * float(((order - np.arange(n)) ** 2).sum()) / (n * (n * n - 1.0))
    x, shape = max(0.0, 1.0 - correlation**2), n / 2 - 1
    floor = (log(2) - lgamma(n + 1)) / _LN10
    if x == 0.0:
        return correlation, floor
    if x > 0.5:
        return correlation, max(floor, float(np.log10(betainc(shape, 0.5, x))))
    # I_x(s, 1/2) = x^s (1-x)^(1/2) / (s B(s, 1/2)) · F(s + 1/2, 1; s + 1; x)
    tail = (
        shape * log(x) + 0.5 * log1p(-x) - log(shape) - betaln(shape, 0.5) + log(hyp2f1(shape + 0.5, 1, shape + 1, x))
    )
    return correlation, max(floor, float(tail / _LN10))


def log10_fisher(log10_p: Sequence[float]) -> float:
    """Fisher's combination of independent p-values, in log10: P(χ²₂ₖ ≥ -2 Σ ln p), a finite sum for an even number of degrees."""
    half = -_LN10 * sum(log10_p)
    if half <= 0:
        return 0.0
    terms = np.array([i * log(half) - lgamma(i + 1) for i in range(len(log10_p))])
    most = terms.max()
    return float(min(0.0, (most + log(np.exp(terms - most).sum()) - half) / _LN10))


def log10_polar_trace(trace: float, size: int) -> float:
    """log10 of a bound for the largest trace of P U over permutations P, for U uniform on the orthogonal matrices of ``size``.

    A union bound over the n! permutations of the large-deviation estimate P(tr U ≥ n x) ≈ exp(-n² I(x)), with the rate of Gross, Witten
    and Wadia for the orthogonal group: I(x) = x²/2 up to x = 1/2, and 1/8 - ln(2(1 - x))/4 beyond.
    """
    x = min(trace / size, 1.0 - 1e-12)
    if x <= 0:
        return 0.0
    rate = x * x / 2 if x <= 0.5 else 0.125 - 0.25 * log(2 * (1 - x))
    return min(0.0, (lgamma(size + 1) - size * size * rate) / _LN10)
