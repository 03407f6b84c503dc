"""The bank: values of statistics over pairs of models that are known to be independent, and what they say of a new value.

A statistic that every disguise preserves has no exact null: a test that generates its null by the disguises themselves has no power.
So its null is measured, on models that were trained and on nothing else, and the p-value can never be smaller than 1/(n + 1) for n
independent models. See docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log10

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError

__all__ = ["Bank", "BankModel", "Range", "SizeRow"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BankModel:
    """One independent model of the bank: what it was, and how to make it again. Its weights are not kept."""

    id: str
    group: str
    """Models of one group are of one shape and were trained alike."""
    architecture: str
    parameters: int
    layers: int
    width: int
    units: int
    """FFN units of a layer."""
    digest: str
    """SHA-256 of the weight files."""
    recipe: str
    """Where it comes from: a recipe of the lab with its digest, or a published package."""
    teacher: str = ""
    """The model whose predictions it learned, if it is a student."""


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest size over the models of a bank."""

    least: int
    most: int

    def holds(self, value: int) -> bool:
        """Whether ``value`` lies inside."""
        return self.least <= value <= self.most


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One statistic over the pairs inside one group: how it moves with size."""

    group: str
    width: int
    layers: int
    units: int
    models: int
    pairs: int
    median: float
    high: float
    """The 99 % quantile."""
    most: float


@dataclass(frozen=True)
class Bank:
    """Independent models, pairs of them, and for each pair the values of the statistics; NaN where a pair has none."""

    models: tuple[BankModel, ...]
    pairs: npt.NDArray[np.intp]
    """(pairs, 2): positions in ``models``, the smaller first."""
    statistics: Mapping[str, Values]
    """By name, each (pairs,)."""
    texts: Mapping[str, str]
    """What each statistic is, in words."""

    def values(self, statistic: str) -> Values:
        """The values over all pairs that have one, ascending. Raises ``UsageError`` for a statistic that the bank does not hold."""
        values = self._of(statistic)
        return np.sort(values[np.isfinite(values)])

    def scores(self, statistic: str) -> Values:
        """For each model that has one, the largest value over its pairs: what it would have been accused with."""
        values = self._of(statistic)
        scores = np.full(len(self.models), -np.inf)
        known = np.isfinite(values)
        for side in (0, 1):
            np.maximum.at(scores, self.pairs[known, side], values[known])
        known_scores: Values = scores[np.isfinite(scores)]
        return known_scores

    def log10_p(self, statistic: str, value: float) -> float:
        """Conformal p of a new value: log10 of ``(1 + models that score at least as high) / (1 + models)``.

        Null hypothesis: the suspect was trained independently of the reference, in a way exchangeable with the trainings of the bank. A
        model scores by the largest of its pairs, which makes the p-value conservative: a new pair is one draw, a score the largest of
        several. Never smaller than 1 / (n + 1). Raises ``UsageError`` for an unknown statistic.
        """
        scores = self.scores(statistic)
        return log10((1 + int((scores >= value).sum())) / (1 + len(scores)))

    def without(self, model: str) -> Bank:
        """The bank as it would be had one model never been in it."""
        place = next((i for i, kept in enumerate(self.models) if kept.id == model), None)
        if place is None:
            raise UsageError(f"no model {model!r} in the bank")
        kept = (self.pairs != place).all(axis=1)
        pairs = self.pairs[kept] - (self.pairs[kept] > place)
        models = (*self.models[:place], *self.models[place + 1 :])
        return Bank(models, pairs, {name: v[kept] for name, v in self.statistics.items()}, self.texts)

    def leave_one_out(self, statistic: str) -> Values:
        """For each pair the log10 p of its value in the bank without the second of its models, as if that one were the suspect."""
        by_suspect = {int(b): self.without(self.models[b].id) for b in np.unique(self.pairs[:, 1])}
        scores = {b: np.sort(bank.scores(statistic)) for b, bank in by_suspect.items()}
        found = []
        for (_, b), value in zip(self.pairs, self._of(statistic), strict=True):
            if np.isfinite(value):
                known = scores[int(b)]
                higher = len(known) - int(np.searchsorted(known, value, side="left"))
                found.append(log10((1 + higher) / (1 + len(known))))
        return np.array(found)

    @cached_property
    def sizes(self) -> Mapping[str, Range]:
        """The range of ``parameters``, ``layers``, ``width`` and ``units`` over the models."""
        if not self.models:
            raise UsageError("the bank holds no model")
        return {
            name: Range(min(sizes), max(sizes))
            for name in ("parameters", "layers", "width", "units")
            for sizes in [[int(getattr(model, name)) for model in self.models]]
        }

    def by_size(self, statistic: str) -> list[SizeRow]:
        """The statistic inside each group, by ascending width: shows how the null moves with size."""
        values, rows = self._of(statistic), []
        groups = np.array([model.group for model in self.models])
        for group in dict.fromkeys(groups.tolist()):
            inside = (groups[self.pairs] == group).all(axis=1) & np.isfinite(values)
            members = [model for model in self.models if model.group == group]
            if inside.any():
                rows.append(_size_row(members, values[inside]))
        return sorted(rows, key=lambda row: (row.width, row.group))

    def _of(self, statistic: str) -> Values:
        if statistic not in self.statistics:
            raise UsageError(f"the bank holds no {statistic!r}, only {', '.join(sorted(self.statistics))}")
        return self.statistics[statistic]


def _size_row(members: Sequence[BankModel], values: Values) -> SizeRow:
    first = members[0]
    median, high = (float(q) for q in np.quantile(values, [0.5, 0.99]))
    return SizeRow(
        first.group,
        first.width,
        first.layers,
        first.units,
        len(members),
        len(values),
        median,
        high,
        float(values.max()),
    )
