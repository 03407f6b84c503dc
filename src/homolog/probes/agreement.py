"""Tier 2: do the bodies of the two models agree more than those of independent models ever did?

There is no exact p-value here. Whatever keeps a model's function keeps the agreement of its body with A, so nothing can be permuted to
generate a null distribution: it is measured instead, on models that are known to be independent (the bank).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from homolog.align.agreement import Agreement
from homolog.align.heat import Heat
from homolog.bank.bank import Bank
from homolog.errors import UsageError
from homolog.probes.attention import HeadFinding
from homolog.probes.finding import NOT_ALIGNED, Null
from homolog.probes.initialisation import Initialisation
from homolog.roles.role import Anatomy

__all__ = ["BEYOND", "ENOUGH", "LAYER", "STATISTIC", "BodyFinding", "weigh_agreement"]

STATISTIC, LAYER = "body_agreement", "body_agreement.best_layer"
"""The names that the bank keeps the median over layers, and the largest layer, under."""

NULL = Null(
    "independent-models-of-the-bank",
    "The suspect was trained independently of the reference, in a way exchangeable with the trainings of the bank. The distribution was "
    "measured on pairs of independent models; it is calibrated, not exact.",
)

ENOUGH, BEYOND = 0.5, 3.0
"""Share of units, over the median layer, that have to agree, and how many times the largest value of the bank it has to be."""

_USUAL = 0.05
"""Up to this, agreement is not remarkable even if no pair of the bank reaches a third of it: published models that have nothing to do with
each other reached 0.022."""

_TOGETHER, _APART, _FAR_APART = 0.5, 0.17, 0.05
"""Agreement, in the frame in which indices agree, of models that were trained together; at most, of models of one start that were trained
apart; and the same where gains or biases leave it open. Of the lineages that this was developed on, runs from one start reach 0.15 in the
frame of the embeddings and, where their gains leave it open, 0.05 in that of the files; descendants 0.20 at least, and all but those of
the longest training 0.87."""

_BINS = 40


@dataclass(frozen=True, slots=True)
class BodyFinding:
    """Agreement of the two bodies beside that of independent models."""

    agreement: Agreement = field(default_factory=Agreement)
    log10_p: float | None = None
    """Conformal over the models of the bank."""
    most: float | None = None
    """The largest value of the bank; ``None`` if it holds none."""
    models: int = 0
    pairs: int = 0
    histogram: tuple[int, ...] = ()
    """Pairs of the bank by their value, in forty bins from 0 to 1."""
    outside: tuple[str, ...] = ()
    """Sizes of the two models that no model of the bank has, in words."""
    heat: Heat | None = None
    """All layers against all layers, before and after alignment: a picture for the report."""
    heads: HeadFinding = field(default_factory=HeadFinding)
    """The same question, asked of attention."""
    layer_most: float | None = None
    """The largest share that a single layer reaches in the bank; ``None`` if it holds none."""
    absent: str | None = NOT_ALIGNED
    """Why the bodies were not compared, or could not be judged."""

    @classmethod
    def missing(cls, reason: str) -> BodyFinding:
        """Not compared, with the reason."""
        return cls(absent=reason)

    @property
    def value(self) -> float | None:
        """The statistic; ``None`` if the bodies were not compared."""
        return None if self.agreement.frame is None else self.agreement.body

    @property
    def related(self) -> bool:
        """Whether most units of most layers agree, far beyond every pair of the bank."""
        return self.value is not None and self.most is not None and self.value > max(ENOUGH, BEYOND * self.most)

    @property
    def layer_agrees(self) -> bool:
        """Whether most units of one layer at least agree, far beyond every layer of the bank."""
        if self.value is None or self.layer_most is None:
            return False
        return self.agreement.best_layer > max(ENOUGH, BEYOND * self.layer_most)

    @property
    def ordinary(self) -> bool:
        """Whether the values are no more than the bank's pairs reach, for FFNs give or take the same factor, and short of what decides."""
        if self.value is None or not self.heads.ordinary:
            return False
        most = 0.0 if self.most is None else min(BEYOND * self.most, ENOUGH)
        return self.value <= max(_USUAL, most)

    @property
    def remarkable(self) -> bool:
        """Whether units or heads agree more than in pairs of the bank: too much to clear the pair, too little to relate it."""
        return not self.heads.ordinary or (self.value is not None and not self.ordinary)

    @property
    def clears(self) -> bool:
        """Whether the value is ordinary beside pairs that were really measured, so that copies of most layers are ruled out."""
        return self.ordinary and self.most is not None

    def settle(self, initialisation: Initialisation) -> Initialisation:
        """Where what training writes into gains and biases is silent or undecided, whether units agree in all their vectors decides.

        Runs from one start whose later training differs keep directions that no longer go together in one unit. Bodies that agree as
        Tier 2 asks were trained together whatever their gains say, which may have been compared over the wrong layers or channels.
        """
        if initialisation.verdict == "not_asked" or self.value is None:
            return initialisation
        if initialisation.verdict != "undecided" and not (
            initialisation.verdict == "initialisation_only" and self.related
        ):
            return initialisation
        share = max(self.value, self.agreement.given.median)
        evidence = {**initialisation.evidence, "body_agreement": self.value, "aligned_agreement": share}
        if self.related or share >= _TOGETHER:
            text = (
                f"In the aligned frame {share:.0%} of the units of the median layer agree in every vector, "
                "which only training together does."
            )
            return Initialisation("trained_together", evidence, text)
        if share <= (_FAR_APART if initialisation.compared else _APART):
            text = (
                f"In the aligned frame only {share:.1%} of the units of the median layer agree in every vector: "
                "the models share their first random numbers, not their training."
            )
            return Initialisation("initialisation_only", evidence, text)
        return Initialisation("undecided", evidence, initialisation.text)

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``agreement``."""
        found = self.agreement
        return {
            "statistic": STATISTIC,
            "tier": 2,
            "null": {"id": NULL.id, "text": NULL.text},
            "value": self.value,
            "log10_p": self.log10_p,
            "thresholds": {"share": ENOUGH, "times_the_bank": BEYOND},
            "b_in_a": _layers(found.b_in_a.by_layer, found.b_in_a.sources),
            "a_in_b": _layers(found.a_in_b.by_layer, found.a_in_b.sources),
            "given_frame": [{"layer": layer, "share": share} for layer, share in sorted(found.given.by_layer.items())],
            "fit": found.fit,
            "bank": {
                "most": self.most,
                "models": self.models,
                "pairs": self.pairs,
                "histogram": list(self.histogram),
                "outside": list(self.outside),
            },
            "best_layer": {"value": None if self.value is None else found.best_layer, "most": self.layer_most},
            "heads": self.heads.to_json(),
            "heat": None if self.heat is None else self.heat.to_json(),
            "absent": self.absent,
        }


def weigh_agreement(agreement: Agreement, asked: HeadFinding, bank: Bank, anatomies: Sequence[Anatomy]) -> BodyFinding:
    """Set an agreement beside the bank's. Absent where the bodies were not comparable or the bank holds no values."""
    if agreement.absent:
        return BodyFinding(agreement, heads=asked, absent=agreement.absent)
    try:
        values = bank.values(STATISTIC)
        layers = bank.values(LAYER) if LAYER in bank.statistics else values[:0]
    except UsageError as error:
        return BodyFinding(agreement, heads=asked, absent=f"no null distribution: {error}")
    if not len(values):
        return BodyFinding(agreement, heads=asked, absent="no null distribution: the bank holds no pair")
    counts, _ = np.histogram(values, bins=_BINS, range=(0.0, 1.0))
    return BodyFinding(
        agreement=agreement,
        log10_p=bank.log10_p(STATISTIC, agreement.body),
        most=float(values[-1]),
        models=len(bank.models),
        pairs=len(values),
        histogram=tuple(counts.tolist()),
        outside=tuple(_outside(bank, anatomies)),
        heads=asked,
        layer_most=float(layers[-1]) if len(layers) else None,
        absent=None,
    )


def _outside(bank: Bank, anatomies: Sequence[Anatomy]) -> list[str]:
    words = {"layers": "layers", "width": "residual channels", "units": "FFN units"}
    found = []
    for key, what in words.items():
        known = bank.sizes[key]
        sizes = {anatomy.dims.ffn if key == "units" else getattr(anatomy.dims, key) for anatomy in anatomies}
        if beyond := sorted(size for size in sizes if not known.holds(size)):
            shown = " and ".join(str(size) for size in beyond)
            found.append(f"{shown} {what} (the bank: {known.least} to {known.most})")
    return found


def _layers(shares: Mapping[int, float], sources: Mapping[int, int]) -> list[dict[str, Any]]:
    return [{"layer": layer, "source": sources[layer], "share": share} for layer, share in sorted(shares.items())]
