"""Attention asked apart: do the heads of two models ask alike, more than those of independent models ever did?

It accuses nobody. What a model computes fixes its heads up to changes that keep the function, so a student that learns another model's
predictions long enough comes to ask as its teacher does (docs/statistics.md). It only keeps a pair from being cleared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from homolog.align.attention import HeadAgreement
from homolog.bank.bank import Bank
from homolog.probes.finding import NOT_ALIGNED

__all__ = ["HEADS", "UNITS", "HeadFinding", "weigh_heads"]

HEADS, UNITS = "head_agreement", "body_agreement.by_heads"
"""The names that the bank keeps the two statistics under."""

_FEW, _BEYOND = 0.05, 3.0
"""Share of units in the frame of attention that is not remarkable, and how many times the largest of the bank is not either."""

_BINS = 40


@dataclass(frozen=True, slots=True)
class HeadFinding:
    """Agreement of the attention of two models beside that of independent ones.

    Null: the suspect was trained independently of the reference, in a way exchangeable with the trainings of the bank, students among
    them; calibrated.
    """

    agreement: HeadAgreement = field(default_factory=HeadAgreement)
    units: float | None = None
    """Share of FFN units, in the median layer, that agree in all their vectors in the frame that was fitted to attention."""
    log10_p: float | None = None
    """Conformal over the models of the bank."""
    most: float | None = None
    """The largest value of the bank; ``None`` if it holds none."""
    units_most: float | None = None
    models: int = 0
    pairs: int = 0
    histogram: tuple[int, ...] = ()
    """Pairs of the bank by their value, in forty bins from 0 to 1; those below 0 stand in the first."""
    absent: str | None = NOT_ALIGNED

    @property
    def value(self) -> float | None:
        """The statistic; ``None`` if heads were not compared."""
        return None if self.agreement.frame is None else self.agreement.value

    @property
    def asks_as_usual(self) -> bool:
        """Whether a pair of the bank asks as much alike, or none was asked."""
        return self.value is None or self.most is None or self.value <= self.most

    @property
    def ordinary(self) -> bool:
        """Whether neither heads nor units in their frame agree beyond what pairs of the bank do."""
        few = self.units is None or self.units_most is None or self.units <= max(_FEW, _BEYOND * self.units_most)
        return self.asks_as_usual and few

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``agreement.heads``."""
        return {
            "statistic": HEADS,
            "value": self.value,
            "units": self.units,
            "log10_p": self.log10_p,
            "b_in_a": _layers(self.agreement.b_in_a.by_layer, self.agreement.b_in_a.sources),
            "a_in_b": _layers(self.agreement.a_in_b.by_layer, self.agreement.a_in_b.sources),
            "fit": self.agreement.fit,
            "bank": {
                "most": self.most,
                "units_most": self.units_most,
                "models": self.models,
                "pairs": self.pairs,
                "histogram": list(self.histogram),
            },
            "absent": self.absent,
        }


def weigh_heads(agreement: HeadAgreement, units: float | None, bank: Bank) -> HeadFinding:
    """Set the agreement of heads, and of units in their frame, beside the bank's.

    Absent where heads were not comparable or the bank holds no values.
    """
    if agreement.absent:
        return HeadFinding(agreement, absent=agreement.absent)
    values, shares = (bank.values(name) if name in bank.statistics else np.empty(0) for name in (HEADS, UNITS))
    if not len(values):
        return HeadFinding(agreement, units, absent="no null distribution: the bank holds no pair")
    counts, _ = np.histogram(np.clip(values, 0.0, 1.0), bins=_BINS, range=(0.0, 1.0))
    return HeadFinding(
        agreement=agreement,
        units=units,
        log10_p=bank.log10_p(HEADS, agreement.value),
        most=float(values[-1]),
        units_most=float(shares[-1]) if len(shares) else None,
        models=len(bank.models),
        pairs=len(values),
        histogram=tuple(counts.tolist()),
        absent=None,
    )


def _layers(cosines: Mapping[int, float], sources: Mapping[int, int]) -> list[dict[str, Any]]:
    return [{"layer": layer, "source": sources[layer], "cosine": value} for layer, value in sorted(cosines.items())]
