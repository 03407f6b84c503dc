"""The statistics that a bank keeps, each read off a comparison of two independent models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from homolog.comparison import Comparison
from homolog.probes.agreement import LAYER, STATISTIC
from homolog.probes.attention import HEADS, UNITS

__all__ = ["STATISTICS", "Statistic"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """What it is, in words, and how it is read off a comparison; ``None`` where a pair has none."""

    text: str
    read: Callable[[Comparison], float | None]


def _headline(comparison: Comparison) -> float | None:
    p = comparison.verdict.log10_p
    return None if p is None else max(0.0, -p)


def _correlation(kind: str) -> Callable[[Comparison], float | None]:
    def read(comparison: Comparison) -> float | None:
        value: float | None = comparison.exhibits["std_curves"]["correlation"][kind]
        return value

    return read


def _gains(comparison: Comparison) -> float | None:
    known = [value for value in comparison.exhibits["norm_gains"]["cosine"] if value is not None]
    return float(np.mean(known)) if known else None


def _body(comparison: Comparison) -> float | None:
    return comparison.agreement.value


def _layer(comparison: Comparison) -> float | None:
    return None if comparison.agreement.value is None else comparison.agreement.agreement.best_layer


def _heads(comparison: Comparison) -> float | None:
    return comparison.agreement.heads.value


def _units(comparison: Comparison) -> float | None:
    return comparison.agreement.heads.units


def _given(comparison: Comparison) -> float | None:
    found = comparison.agreement.agreement.given
    return found.median if found.by_layer else None


STATISTICS: Mapping[str, Statistic] = {
    STATISTIC: Statistic(
        "share of FFN units whose vectors all point to one partner in the body frame, median over layers", _body
    ),
    LAYER: Statistic("the same in the layer where it is largest", _layer),
    HEADS: Statistic(
        "cosine of what heads ask with and that of the heads that read and write most alike, in a frame fitted to the latter, median over "
        "heads and layers",
        _heads,
    ),
    UNITS: Statistic(
        "share of FFN units whose vectors all point to one partner in that frame, median over layers", _units
    ),
    "given_agreement": Statistic("the same in the frame of the embeddings, or of the files, for information", _given),
    "headline": Statistic("-log10 p of the headline of the exact tests, corrected for the planned tests", _headline),
    **{
        f"std_curves.{kind}": Statistic(
            f"correlation of the curves of the standard deviation of {kind.upper()} by layer", _correlation(kind)
        )
        for kind in "qkvo"
    },
    "norm_gains": Statistic("cosine of the norm gains of matched layers, mean over layers", _gains),
}
