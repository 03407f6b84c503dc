"""What exact p-values have to show: how they fall on independent pairs, and what they are for every derived model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from homolog.arena.cases import INDEPENDENT, RELATED
from homolog.arena.methods.base import Method
from homolog.arena.run import Result

__all__ = ["Honesty", "list_descents", "list_honesty", "measure_honesty"]

_LEVELS = (0.05, 0.01, 0.001)
_HEADLINE = "homolog-tier1"


@dataclass(frozen=True, slots=True)
class Honesty:
    """How the p-values of one method fall on the independent pairs that it answered."""

    pairs: int
    smallest: float
    """log10 of the smallest."""
    shares: tuple[float, ...]
    """Of pairs with p at most 0.05, 0.01 and 0.001."""
    excess: float
    """The largest of (share of pairs with p or less) / p over the p that were seen: at most 1 if the p–p plot is on or above the
    diagonal everywhere."""


def measure_honesty(results: Sequence[Result]) -> Honesty | None:
    """From results whose values are -log10 p; ``None`` if no independent pair was answered."""
    log10_p = np.sort(
        [-r.score.value for r in results if r.label == INDEPENDENT and r.score.value is not None], kind="stable"
    )
    if not len(log10_p):
        return None
    at_most = np.searchsorted(log10_p, log10_p, side="right") / len(log10_p)
    return Honesty(
        pairs=len(log10_p),
        smallest=float(log10_p[0]),
        shares=tuple(float(np.mean(log10_p <= np.log10(level))) for level in _LEVELS),
        # a p-value below 1e-300 that independent models have is beyond any excess that could be told
        excess=float(10 ** np.minimum(np.log10(at_most) - log10_p, 300.0).max()),
    )


def list_honesty(methods: Sequence[Method], results: Sequence[Result]) -> list[list[str]]:
    """One row a method that gives p-values, the header first."""
    rows = [
        ["method", "independent pairs", *(f"p ≤ {level:g}" for level in _LEVELS), "smallest log10 p", "largest excess"]
    ]
    for method in methods:
        found = measure_honesty([r for r in results if r.method == method.name]) if method.is_p_value else None
        if found is not None:
            shares = [f"{share:.1%}" for share in found.shares]
            excess = f"{found.excess:.3g}" if found.excess < 1000 else f"1e{np.log10(found.excess):.0f}"
            rows.append([method.name, str(found.pairs), *shares, _show(found.smallest), excess])
    return rows


def list_descents(results: Sequence[Result]) -> list[list[str]]:
    """log10 p of homolog's exact test for every model against the one that it was made from, the header first."""
    rows = [["model", "known model", "operation", "held out", "log10 p"]]
    found = [r for r in results if r.method == _HEADLINE and r.label == RELATED and r.operation != "siblings"]
    for r in sorted(found, key=lambda r: (r.operation, r.b, r.a)):
        value = "none: " + (r.score.reason or "") if r.score.value is None else _show(-r.score.value)
        rows.append([r.b, r.a, r.operation, "yes" if r.held_out else "", value])
    return rows


def _show(log10_p: float) -> str:
    """To one decimal, without a negative zero."""
    return f"{round(log10_p, 1) + 0.0:.1f}"
