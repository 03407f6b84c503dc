"""Tier 2, of attention: do the heads of two models ask alike, more than those of independent models ever did?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from homolog.align.attention import HeadAgreement
from homolog.bank.bank import Bank
from homolog.probes.finding import NOT_ALIGNED

__all__ = ["HEADS", "HeadFinding", "weigh_heads"]

HEADS = "head_agreement"
"""The name that the bank keeps the statistic under."""

ENOUGH, BEYOND, USUAL = 0.4, 2.0, 1.5
"""Median cosine that the median layer has to reach, how many times the largest value of the bank it has to be, and up to how many times
that one it is not remarkable. The null is wider than that of units, and widest where two small models share tokenizer and text: in the
bank one pair in a hundred reaches 0.16. Of the lineages that this was developed on descendants keep 0.49 at least (0.17 after three times
their ancestor's tokens), and runs from one start stay below 0.08."""

_BINS = 40


@dataclass(frozen=True, slots=True)
class HeadFinding:
    """Agreement of the attention of two models beside that of independent ones.

    Null: the suspect was trained independently of the reference, in a way exchangeable with the trainings of the bank; calibrated.
    """

    agreement: HeadAgreement = field(default_factory=HeadAgreement)
    log10_p: float | None = None
    """Conformal over the models of the bank."""
    most: float | None = None
    """The largest value of the bank; ``None`` if it holds none."""
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
    def related(self) -> bool:
        """Whether heads of most layers ask alike, far beyond every pair of the bank."""
        return self.value is not None and self.most is not None and self.value > max(ENOUGH, BEYOND * self.most)

    @property
    def ordinary(self) -> bool:
        """Whether the value is about what the bank's pairs have too, or was not asked."""
        return self.value is None or self.most is None or self.value <= USUAL * self.most

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``agreement.heads``."""
        return {
            "statistic": HEADS,
            "value": self.value,
            "log10_p": self.log10_p,
            "thresholds": {"cosine": ENOUGH, "times_the_bank": BEYOND},
            "b_in_a": _layers(self.agreement.b_in_a.by_layer, self.agreement.b_in_a.sources),
            "a_in_b": _layers(self.agreement.a_in_b.by_layer, self.agreement.a_in_b.sources),
            "fit": self.agreement.fit,
            "bank": {
                "most": self.most,
                "models": self.models,
                "pairs": self.pairs,
                "histogram": list(self.histogram),
            },
            "absent": self.absent,
        }


def weigh_heads(agreement: HeadAgreement, bank: Bank) -> HeadFinding:
    """Set the agreement of heads beside the bank's. Absent where heads were not comparable or the bank holds no values."""
    if agreement.absent:
        return HeadFinding(agreement, absent=agreement.absent)
    values = bank.values(HEADS) if HEADS in bank.statistics else np.empty(0)
    if not len(values):
        return HeadFinding(agreement, absent="no null distribution: the bank holds no pair")
    counts, _ = np.histogram(np.clip(values, 0.0, 1.0), bins=_BINS, range=(0.0, 1.0))
    return HeadFinding(
        agreement=agreement,
        log10_p=bank.log10_p(HEADS, agreement.value),
        most=float(values[-1]),
        models=len(bank.models),
        pairs=len(values),
        histogram=tuple(counts.tolist()),
        absent=None,
    )


def _layers(cosines: Mapping[int, float], sources: Mapping[int, int]) -> list[dict[str, Any]]:
    return [{"layer": layer, "source": sources[layer], "cosine": value} for layer, value in sorted(cosines.items())]
