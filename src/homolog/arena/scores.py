"""From results to figures: AUC, detections at zero false accusations, false accusations, with intervals that count lineages.

A pair that a method has no answer for is not found by it: in every figure its value is lower than any other. Pairs that share models are
not independent of each other, so intervals come from drawing whole lineages with replacement: a pair weighs the product of how often its
lineages were drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.arena.cases import INDEPENDENT, RELATED, SHARED
from homolog.arena.run import Result

__all__ = ["Estimate", "Summary", "curve", "is_found", "summarise", "weighted_auc"]

Vector = npt.NDArray[np.float64]
_DRAWS = 500


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the table."""

    method: str
    pairs: int
    answered: int
    auc: Estimate | None
    """Related against independent pairs."""
    threshold: float | None
    """The largest value of an independent pair, held-out lineages aside."""
    detected: Estimate | None
    """Share of related pairs above `threshold`, held-out lineages aside."""
    held_out_detected: float | None
    """The same share on pairs of held-out lineages, which did not choose the threshold."""
    held_out_accused: float | None
    """Share of independent pairs of held-out lineages above `threshold`."""
    own_detected: float | None
    """Share of related pairs found at the method's own threshold."""
    own_accused: Estimate | None
    """Share of independent pairs accused at the method's own threshold."""
    shared_accused: float | None
    """Share of pairs that share no more than their initialisation and are called related at the method's own threshold."""
    missed: tuple[str, ...]
    """Operations of which less than half is found: at the method's own threshold, or at `threshold` if it states none."""
    accused: tuple[str, ...]
    """Operations under which an independent pair is accused, by the same rule."""
    seconds: float | None
    """Median over the pairs that it answered."""
    peak_bytes: int | None
    """Largest over the pairs that it answered."""
    reason: str | None = None
    """Why it answered no pair."""
    unanswered: tuple[tuple[str, int], ...] = ()
    """Why it had no answer, with the number of pairs, most frequent first."""


def weighted_auc(positive: Vector, negative: Vector, weights: Sequence[Vector] | None = None) -> float:
    """Probability that a positive lies above a negative, ties counted half, with weights for each."""
    left, right = weights or (np.ones(len(positive)), np.ones(len(negative)))
    order = np.argsort(negative, kind="stable")
    mass = np.concatenate([[0.0], np.cumsum(right[order])])
    below = mass[np.searchsorted(negative[order], positive, side="left")]
    equal = mass[np.searchsorted(negative[order], positive, side="right")] - below
    return float((left * (below + equal / 2)).sum() / (left.sum() * right.sum()))


def curve(results: Sequence[Result]) -> list[tuple[float, float]]:
    """The ROC of one method: (false accusations, detections) as the threshold falls."""
    positive, negative = (_values([r for r in results if r.label == label]) for label in (RELATED, INDEPENDENT))
    if not len(positive) or not len(negative):
        return []
    cuts = np.unique(np.concatenate([positive, negative]))[::-1]
    points = [(float((negative >= cut).mean()), float((positive >= cut).mean())) for cut in cuts]
    return [(0.0, 0.0), *points]


def is_found(result: Result, threshold: float | None) -> bool:
    """Whether a method found the pair: by its own rule, or above ``threshold`` if its authors state none."""
    if result.score.own_threshold is not None:
        return bool(result.score.says_related)
    return threshold is not None and result.score.value is not None and result.score.value > threshold


def summarise(method: str, results: Sequence[Result], *, seed: int = 0) -> Summary:
    """The figures of one method over its results."""
    answered = [r for r in results if r.score.value is not None]
    unanswered = tuple(Counter(r.score.reason for r in results if r.score.reason).most_common())
    related, independent, shared = ([r for r in results if r.label == x] for x in (RELATED, INDEPENDENT, SHARED))
    open_related, held_related = _split(related)
    open_independent, held_independent = _split(independent)
    if not answered or not related or not independent:
        why = None if answered else "; ".join(reason for reason, _ in unanswered[:2]) or "there was nothing to answer"
        blank = (None,) * 8
        return Summary(method, len(results), len(answered), *blank, (), (), None, None, why, unanswered)
    threshold = float(_values(open_independent).max()) if open_independent else None
    has_own = any(r.score.own_threshold is not None for r in results)
    found = {id(r): is_found(r, threshold) for r in results}

    def above(result: Result) -> bool:
        return result.score.value is not None and (threshold is None or result.score.value > threshold)

    def says(result: Result) -> bool:
        return bool(result.score.says_related)

    return Summary(
        method=method,
        pairs=len(results),
        answered=len(answered),
        auc=_auc(related, independent, seed),
        threshold=threshold if threshold is not None and np.isfinite(threshold) else None,
        detected=_share(open_related, above, seed),
        held_out_detected=_plain(held_related, above),
        held_out_accused=_plain(held_independent, above),
        own_detected=_plain(related, says) if has_own else None,
        own_accused=_share(independent, says, seed) if has_own else None,
        shared_accused=_plain(shared, says) if has_own else None,
        missed=tuple(op for op, share in _by_operation(related, found).items() if share < 0.5),
        accused=tuple(op for op, share in _by_operation(independent, found).items() if share > 0),
        seconds=float(np.median([r.score.seconds for r in answered if r.score.seconds is not None])),
        peak_bytes=max((r.score.peak_bytes for r in answered if r.score.peak_bytes is not None), default=None),
        unanswered=unanswered,
    )


def _by_operation(results: Sequence[Result], found: dict[int, bool]) -> dict[str, float]:
    shares: dict[str, list[bool]] = {}
    for result in results:
        shares.setdefault(result.operation, []).append(found[id(result)])
    return {operation: float(np.mean(seen)) for operation, seen in sorted(shares.items())}


def _values(results: Sequence[Result]) -> Vector:
    return np.array([-np.inf if r.score.value is None else r.score.value for r in results], dtype=np.float64)


def _split(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    return [r for r in results if not r.held_out], [r for r in results if r.held_out]


def _plain(results: Sequence[Result], holds: Callable[[Result], bool]) -> float | None:
    return float(np.mean([holds(r) for r in results])) if results else None


def _share(results: Sequence[Result], holds: Callable[[Result], bool], seed: int) -> Estimate | None:
    held = np.array([holds(r) for r in results], dtype=np.float64)
    return _estimate(lambda weights: float(np.average(held, weights=weights[0])), (results,), seed)


def _auc(related: Sequence[Result], independent: Sequence[Result], seed: int) -> Estimate | None:
    positive, negative = _values(related), _values(independent)
    return _estimate(lambda weights: weighted_auc(positive, negative, weights), (related, independent), seed)


def _estimate(
    figure: Callable[[Sequence[Vector]], float], sides: Sequence[Sequence[Result]], seed: int
) -> Estimate | None:
    """A figure of weights for one or two groups of results, with its interval by drawing lineages with replacement.

    A share that no draw changes has an interval all the same: for 0 or 1 out of n lineages the exact bound 1 - 0.05^(1/n).
    """
    if not all(sides):
        return None
    lineages = sorted({lineage for side in sides for result in side for lineage in result.lineages})
    belongs = [np.array([[x in r.lineages for x in lineages] for r in side]) for side in sides]
    value = figure([np.ones(len(side)) for side in sides])
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(_DRAWS):
        counts = np.bincount(rng.integers(0, len(lineages), len(lineages)), minlength=len(lineages)).astype(np.float64)
        weights = [np.where(own, counts, 1.0).prod(axis=1) for own in belongs]
        if all(w.sum() > 0 for w in weights):
            drawn.append(figure(weights))
    low, high = (float(np.quantile(drawn, q)) for q in (0.025, 0.975)) if drawn else (0.0, 1.0)
    slack = 1 - 0.05 ** (1 / len(lineages))
    if value == 0.0:
        high = max(high, slack)
    if value == 1.0:
        low = min(low, 1 - slack)
    return Estimate(value, min(low, value), max(high, value))
