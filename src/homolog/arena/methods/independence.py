"""Independence tests for language models (Zhu et al., arXiv 2502.12292, ICML 2025).

The constrained test φ_U: in every layer the rows of A's up matrix are assigned to those of B's at the largest total cosine; Spearman's
correlation of that permutation with the identity has an exact null, because initialisation and training are exchangeable over units; the
layers' p-values are combined by Fisher. It needs models of the same names and shapes.

The unconstrained φ_MATCH assigns units twice, by the activations of gate and of up, and asks whether the two assignments agree.
``match-weights`` here is *not the paper's test*: it assigns by the rows of the weights, since the arena runs no model, and so loses what
activations survive (rotations of the residual stream). Layers are taken by number, or, where the depths differ, each layer of B against
all of A at the smallest p times their number.

The papers fix no significance level; 0.05 is taken.
"""

from __future__ import annotations

from math import log10

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from homolog.align.matching import unit_rows
from homolog.arena.methods.base import Method, Model, NotApplicable
from homolog.arena.methods.pvalues import log10_fisher, log10_permutation
from homolog.checkpoint.base import Array
from homolog.roles.role import Role

__all__ = ["CONSTRAINED", "MATCH_WEIGHTS", "assign_rows", "match_layer"]

_LEVEL = -log10(0.05)


def assign_rows(a: Array, b: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of ``a`` and the rows of ``b`` assigned to them at the largest total cosine; the longer side keeps rows to itself."""
    rows, columns = linear_sum_assignment(-(unit_rows(a) @ unit_rows(b).T))
    return rows, columns


def match_layer(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
    """log10 p that two assignments of the same units, by gate and by up, agree by chance."""
    first, second = (dict(zip(*assign_rows(x, y), strict=True)) for x, y in zip(a, b, strict=True))
    common = sorted(first.keys() & second.keys())
    order = np.argsort(np.argsort([second[i] for i in common]))
    by_first = np.argsort([first[i] for i in common])
    return log10_permutation(order[by_first])[1]


def _constrained(a: Model, b: Model) -> float:
    blocks = a.blocks()
    if [(role, a.roles[role]) for role in blocks] != [(role, b.roles[role]) for role in b.blocks()]:
        raise NotApplicable("the FFNs differ in shape or number")
    return -log10_fisher([log10_permutation(assign_rows(a.read(r), b.read(r))[1])[1] for r in blocks])


def _match(a: Model, b: Model) -> float:
    if not (a.anatomy.traits.gated and b.anatomy.traits.gated):
        raise NotApplicable("an ungated FFN has one matrix to match by")
    sides = [[(model.read(_gate(up)), model.read(up)) for up in model.blocks()] for model in (a, b)]
    if not all(sides) or sides[0][0][1].shape[1] != sides[1][0][1].shape[1]:
        raise NotApplicable("the residual widths differ")
    if len(sides[0]) == len(sides[1]):
        return -log10_fisher([match_layer(x, y) for x, y in zip(*sides, strict=True)])
    tries = log10(len(sides[0]))
    return -log10_fisher([min(0.0, tries + min(match_layer(x, y) for x in sides[0])) for y in sides[1]])


def _gate(up: Role) -> Role:
    return Role("ffn.gate", layer=up.layer, expert=up.expert, shared=up.shared)


CONSTRAINED = Method(
    name="independence-test",
    citation="Zhu et al. 2025, Independence Tests for Language Models (constrained φ_U), arXiv 2502.12292",
    access="weights",
    statistic="-log10 p, Fisher over layers",
    compute=_constrained,
    own_threshold=_LEVEL,
    threshold_source="p < 0.05, the customary level; the paper fixes none",
    is_p_value=True,
)
MATCH_WEIGHTS = Method(
    name="match-weights",
    citation="after Zhu et al. 2025 (φ_MATCH), arXiv 2502.12292; by weights where the paper's test uses activations",
    access="weights",
    statistic="-log10 p, Fisher over layers",
    compute=_match,
    own_threshold=_LEVEL,
    threshold_source="p < 0.05, the customary level; the paper fixes none",
    is_p_value=True,
)
