"""Which tensors of B are those of A still, and where the difference of the two has a low rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from homolog.checkpoint.base import Array
from homolog.derivation.whole import TensorPair
from homolog.roles.role import Role

__all__ = ["LowRank", "TensorState", "Tensors", "judge_tensor", "measure_rank", "sum_up_tensors", "ulp"]

NEAR = 0.002
"""Relative change up to which a tensor counts as nearly frozen: rounding to bf16 changes it by 0.0012."""

_STRANGE = 0.2
"""Cosine below which two matrices in one place have nothing in common: heads in another order, or a matrix drawn anew."""

_LEAST, _PART = 16, 4
"""The smaller side of a matrix must have at least so many rows, and its delta a rank of a quarter of that at most."""

_ENERGY = 0.9
_EDGE = 1.3
"""Singular values up to so many times the largest that rounding noise alone would have count as noise."""

_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 23}


@dataclass(frozen=True, slots=True)
class TensorState:
    """One tensor of B beside its source."""

    role: Role
    source: Role | None
    state: str
    """``frozen`` (bit-identical), ``near_frozen``, ``changed``, ``replaced`` (nothing in common), ``new`` (no source)."""
    change: float | None
    """|B − A| / |A| over what has a counterpart."""
    covered: float
    numbers: int

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            **_place(self.role),
            "part": self.role.part,
            "source": self.source.layer if self.source is not None and self.source.layer >= 0 else None,
            "state": self.state,
            "change": self.change,
            "covered": self.covered,
            "numbers": self.numbers,
        }


@dataclass(frozen=True, slots=True)
class LowRank:
    """A matrix whose difference from its source has a low rank."""

    role: Role
    rank: int
    full: int
    energy: float
    """Share of the squared difference in its first ``rank`` directions."""

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {**_place(self.role), "rank": self.rank, "full": self.full, "energy": self.energy}


@dataclass(frozen=True, slots=True)
class Tensors:
    """All tensors of B, or why they were not compared."""

    states: tuple[TensorState, ...] = ()
    low_rank: tuple[LowRank, ...] = ()
    tested: int = 0
    """Matrices that changed and whose difference was decomposed."""
    absent: str | None = None

    def count(self, state: str) -> int:
        """How many tensors are in a state."""
        return sum(found.state == state for found in self.states)

    @property
    def rank(self) -> int | None:
        """The rank that most of the low-rank differences have; ``None`` unless they are most of all differences."""
        if len(self.low_rank) < 2 or 2 * len(self.low_rank) < self.tested:
            return None
        counts = Counter(found.rank for found in self.low_rank)
        return max(counts, key=lambda rank: (counts[rank], rank))

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``tensors``."""
        compared = [found for found in self.states if found.source is not None]
        numbers = sum(found.numbers for found in self.states)
        frozen = sum(found.numbers * found.covered for found in self.states if found.state == "frozen")
        return {
            "compared": len(compared),
            **{state: self.count(state) for state in ("frozen", "near_frozen", "changed", "replaced", "new")},
            "frozen_numbers": frozen / numbers if numbers else 0.0,
            "bound": NEAR,
            "rows": [found.to_json() for found in self.states],
            "absent": self.absent,
        }

    def ranks_to_json(self) -> dict[str, Any]:
        """As the document has it, under ``low_rank``."""
        rows = [found.to_json() for found in self.low_rank]
        return {"matrices": rows, "tested": self.tested, "rank": self.rank, "absent": self.absent}


def sum_up_tensors(pairs: Iterator[TensorPair]) -> Tensors:
    """Judge every tensor, and decompose the difference of every matrix that changed and has a counterpart for each number."""
    states, ranks, tested = [], [], 0
    for pair in pairs:
        state = judge_tensor(pair)
        states.append(state)
        whole = pair.covered == 1.0 and not pair.fitted and pair.b.ndim == 2 and min(pair.b.shape) >= _LEAST
        if state.state in ("near_frozen", "changed") and whole and pair.dtypes[1] in _MANTISSA:
            tested += 1
            if (found := measure_rank(pair)) is not None:
                ranks.append(found)
    return Tensors(tuple(states), tuple(ranks), tested)


def judge_tensor(pair: TensorPair) -> TensorState:
    """What became of one tensor."""
    if pair.source is None:
        return TensorState(pair.role, None, "new", None, 0.0, pair.numbers)
    length = float(np.linalg.norm(pair.a.astype(np.float64)))
    difference = float(np.linalg.norm(pair.b.astype(np.float64) - pair.a))
    change = difference / length if length else (0.0 if not difference else 1.0)
    if np.array_equal(pair.a, pair.b):
        state = "frozen"
    elif change <= NEAR:
        state = "near_frozen"
    elif not np.isfinite(change):
        return TensorState(pair.role, pair.source, "changed", None, pair.covered, pair.numbers)
    else:
        state = "replaced" if pair.b.ndim == 2 and _cosine(pair.a, pair.b) < _STRANGE else "changed"
    return TensorState(pair.role, pair.source, state, change, pair.covered, pair.numbers)


def measure_rank(pair: TensorPair) -> LowRank | None:
    """The rank of B − A beyond what rounding to B's precision leaves, if it is low; ``None`` if it is not.

    Rounding adds noise of variance ulp²/12 to every number; the largest singular value of such noise is about σ (√m + √n)
    (Marchenko and Pastur 1967).
    """
    difference = pair.b.astype(np.float64) - pair.a
    if not np.isfinite(difference).all() or _is_rearranged(pair.a, pair.b):
        return None
    values = np.linalg.svd(difference, compute_uv=False)
    sides = difference.shape
    noise = float(np.sqrt(np.mean(ulp(pair.b, pair.dtypes[1]) ** 2) / 12))
    floor = max(_EDGE * noise * (sides[0] ** 0.5 + sides[1] ** 0.5), 1e-5 * float(values[0]))
    rank = int((values > floor).sum())
    if not 0 < rank <= min(sides) // _PART:
        return None
    energy = float((values[:rank] ** 2).sum() / (values**2).sum())
    return LowRank(pair.role, rank, min(sides), energy) if energy >= _ENERGY else None


def _is_rearranged(a: Array, b: Array) -> bool:
    """Whether rows or columns stand in another order, and nothing else: heads that swapped places differ by a low rank."""
    for axis in (1, 0):
        first, second = (np.sort(np.linalg.norm(x, axis=axis)) for x in (a, b))
        if np.allclose(first, second, rtol=1e-6, atol=0.0):
            return True
    return False


def ulp(values: Array, dtype: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Distance of neighbouring numbers of a storage type at ``values``."""
    _, exponent = np.frexp(np.abs(values.astype(np.float64)))
    return np.asarray(np.ldexp(1.0, exponent - 1 - _MANTISSA[dtype]), dtype=np.float64)


def _cosine(a: Array, b: Array) -> float:
    whole = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return abs(float(np.vdot(a, b))) / whole if whole else 0.0


def _place(role: Role) -> dict[str, Any]:
    return {
        "layer": role.layer if role.layer >= 0 else None,
        "kind": role.kind,
        "expert": role.expert,
        "shared": role.shared,
    }
