"""Is B closer to A than descent from a third, given model C explains? Siblings, or one in between.

Two statistics. *Rows*: the rows that no text reaches are, in a model that was trained on from another's file, that one's times a factor,
rounded once more (`homolog.derivation.rounding`): that orders the three. *Overlap*: how much of what A changed since C is in what B
changed, apart from what decay does to both. It is 0.87 and more where B went on from A; siblings reach 0.56 where they read the same text,
and 0.2 else (lineages a, q and s). It says who lies between the others, not who was first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.derivation.rounding import Follows, compare_rows, share_rows
from homolog.derivation.whole import TensorPair, Wholes

__all__ = ["INHERITED", "OTHER", "Edge", "GivenModel", "decide", "find_between", "measure_overlap", "weigh_given"]

INHERITED, OTHER = 0.8, 0.6
"""Overlap from which on a change is held to be inherited, and up to which to be another one."""

_SMALLEST, _FEWEST = 16, 4


@dataclass(frozen=True, slots=True)
class Edge:
    """One model's unused rows computed from another's."""

    older: str
    younger: str
    rows: Follows
    """As seen from the first of the two in the order a, b, c."""

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        rows = self.rows
        return {
            "from": self.older,
            "to": self.younger,
            "rows": rows.rows,
            "numbers": rows.numbers,
            "follow": max(rows.forward, rows.backward),
            "back": min(rows.forward, rows.backward),
        }


@dataclass(frozen=True, slots=True)
class GivenModel:
    """What stands between A and B, given C; or why that cannot be said."""

    model: str = ""
    outcome: str = "undecided"
    """``sibling`` (both from C, neither from the other); ``c_a_b``, ``c_b_a``, ``a_c_b``, ``b_c_a``, ``a_b_c``, ``b_a_c`` (the order of
    descent); ``undecided``."""
    between: str | None = None
    """The model that lies between the other two, whoever was first; ``None`` if that does not show."""
    edges: tuple[Edge, ...] = ()
    apart: tuple[str, ...] = ()
    """Pairs of models whose unused rows are multiples of each other without either's being computed from the other's."""
    overlap: Mapping[str, float] = field(default_factory=dict)
    """``x_in_y_since_z``: how much of what x changed since z is in y."""
    absent: str | None = None
    why: str = ""
    """Why it is undecided."""

    @property
    def inherited(self) -> bool:
        """Whether most of what A or B changed since C is in the other."""
        return any(self.overlap.get(key, 0.0) >= INHERITED for key in ("a_in_b_since_c", "b_in_a_since_c"))

    @property
    def text(self) -> str:
        """In a sentence."""
        if self.absent:
            return f"the given model says nothing: {self.absent}"
        if self.outcome == "sibling":
            return "A and B both descend from C, and neither from the other: B is no closer to A than that explains"
        if self.outcome != "undecided":
            first, middle, last = self.outcome.upper().split("_")
            return f"descent runs {first} → {middle} → {last}, or by way of a model whose token table {middle} left as it was"
        return f"undecided: {self.why}"

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``given``."""
        return {
            "model": self.model,
            "outcome": self.outcome,
            "between": self.between,
            "edges": [edge.to_json() for edge in self.edges],
            "apart": list(self.apart),
            "values": dict(self.overlap),
            "thresholds": {"inherited": INHERITED, "other": OTHER},
            "text": self.text,
            "absent": self.absent,
        }


def weigh_given(name: str, ab: Wholes, ca: Wholes | str, cb: Wholes | str) -> GivenModel:
    """``ab`` brings A and B together, ``ca`` C and A, ``cb`` C and B; or says why the two do not meet.

    Raises CheckpointError where a file cannot be read.
    """
    for other, wholes in (("A", ca), ("B", cb)):
        if isinstance(wholes, str):
            return GivenModel(name, absent=f"C and {other}: {wholes}")
    assert not isinstance(ca, str)
    assert not isinstance(cb, str)
    edges, apart = [], []
    for key, wholes in (("ab", ab), ("ca", ca), ("cb", cb)):
        rows = compare_rows(wholes.pairs())
        if rows is not None and rows.from_a:
            edges.append(Edge(key[0], key[1], rows))
        elif rows is not None and rows.from_b:
            edges.append(Edge(key[1], key[0], rows))
        elif rows is not None and rows.from_neither:
            apart.append(key)
    overlap = measure_overlap(ab, ca, cb)
    if find_between(overlap) == "c" and share_rows(ab.pairs()):
        # two children that were trained for as many steps: had one gone on from the other with its table frozen, it would hold its changes
        apart.append("ab")
    return decide(
        GivenModel(name, between=find_between(overlap), edges=tuple(edges), apart=tuple(apart), overlap=overlap)
    )


def decide(found: GivenModel) -> GivenModel:
    """The outcome: the rows order the three, and the overlap does not contradict them."""
    if found.absent:
        return found
    edges = {(edge.older, edge.younger) for edge in found.edges}
    apart = {frozenset(key) for key in found.apart}
    outcomes = {}
    if {("c", "a"), ("c", "b")} <= edges and frozenset("ab") in apart:
        outcomes["sibling"] = "c"
    for first, middle, last in permutations("abc"):
        if {(first, middle), (middle, last)} <= edges and frozenset((first, last)) in apart:
            outcomes[f"{first}_{middle}_{last}"] = middle
    if len(outcomes) == 1:
        (outcome, middle), *_ = outcomes.items()
        if found.between in (middle, None) and not (outcome == "sibling" and found.inherited):
            return replace(found, outcome=outcome)
        return replace(found, why="what the rows say is not what the bodies say")
    if found.between:
        why = f"{found.between.upper()} lies between the other two, but who was first does not show"
    elif found.inherited:
        why = "what A and B changed since C is the same for the most part: one went on from the other, but which does not show"
    elif found.overlap:
        why = "the changes overlap too much for siblings, and too little for one to have gone on from the other"
    else:
        why = "too few matrices have the same shape in all three models"
    return replace(found, why=why)


def find_between(overlap: Mapping[str, float]) -> str | None:
    """Which of the three lies between the others, seen from C: A or B where what it changed went into the other, C where neither's did.

    ``None`` in between, and where each change is in the other: then decay decides which is the larger.
    """
    if not overlap:
        return None
    a_in_b, b_in_a = overlap["a_in_b_since_c"], overlap["b_in_a_since_c"]
    if max(a_in_b, b_in_a) <= OTHER:
        return "c"
    if min(a_in_b, b_in_a) < INHERITED <= max(a_in_b, b_in_a):
        return "a" if a_in_b > b_in_a else "b"
    return None


def measure_overlap(ab: Wholes, ca: Wholes, cb: Wholes) -> dict[str, float]:
    """For every x, y and z how much of what x changed since z is in what y changed since z: the median over matrices.

    For matrices X, Y and Z it is ⟨P(X − Z), P(Y − Z)⟩ / |P(X − Z)|², where P takes away of every row what lies along Z's. Empty where fewer
    than four matrices have one shape in all three models.
    """
    with_a = {pair.role: pair for pair in ca.pairs() if _usable(pair)}
    with_b = {pair.role: pair for pair in cb.pairs() if _usable(pair)}
    found: dict[str, list[float]] = {}
    for pair in ab.pairs():
        if not _usable(pair) or pair.source not in with_a or pair.role not in with_b:
            continue
        first, second = with_a[pair.source], with_b[pair.role]
        alike = first.source == second.source and first.b.shape == pair.a.shape == second.a.shape
        if not alike or not np.array_equal(first.b, pair.a) or not np.array_equal(first.a, second.a):
            continue
        matrices = {"a": pair.a, "b": pair.b, "c": first.a}
        if any(np.array_equal(matrices[x], matrices[y]) for x, y in ("ab", "ac", "bc")):
            continue
        for x, y, z in permutations("abc"):
            dx, dy = (_own(matrices[key], matrices[z]) for key in (x, y))
            found.setdefault(f"{x}_in_{y}_since_{z}", []).append(
                float((dx * dy).sum() / max(float((dx * dx).sum()), 1e-300))
            )
    if not found or len(next(iter(found.values()))) < _FEWEST:
        return {}
    return {key: float(np.median(values)) for key, values in sorted(found.items())}


def _usable(pair: TensorPair) -> bool:
    matrix = pair.source is not None and pair.role.layer >= 0 and pair.role.part == "weight" and pair.b.ndim == 2
    return (
        matrix
        and not pair.fitted
        and pair.covered == 1.0
        and min(pair.b.shape) >= _SMALLEST
        and bool(np.isfinite(pair.b).all())
    )


def _own(values: Array, root: Array) -> npt.NDArray[np.float64]:
    """``values`` row by row without what lies along the rows of ``root``: decay and growth of a row are no change of its own."""
    x, r = values.astype(np.float64), root.astype(np.float64)
    along = np.einsum("ij,ij->i", x, r) / np.maximum(np.einsum("ij,ij->i", r, r), 1e-300)
    return np.asarray(x - along[:, None] * r)
