"""Which gate, up and down belong together, and which of two equal shapes is the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from homolog.roles.anonymous.blocks import Blocks
from homolog.roles.anonymous.skeleton import Skeleton
from homolog.roles.anonymous.statistics import assign, kinship, sign_score

__all__ = ["FeedForward", "Found", "find_feed_forwards"]

BENT = 4.0
"""Sign score from which on a matrix is a gate; ups of trained models stay within 3 (docs/anonymous.md)."""
STRAIGHT = 3.0
"""Sign score up to which a matrix may be an up."""
_AHEAD = 0.1
_KIN = 20.0
"""Kinship of two matrices that belong together; strangers have 2 on average, and reach 12 once in a thousand pairs."""


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The matrices of one FFN by name; ``gate`` is empty in a plain one."""

    gate: str
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class Found:
    """The FFNs that are beyond doubt, and how sure that is."""

    forwards: tuple[FeedForward, ...]
    least_bent: float
    """Smallest sign score of a gate, and largest of an up; 0 in plain FFNs."""
    most_straight: float
    least_kin: float
    """Smallest kinship of matrices that were put together, over that of their best rivals."""


def find_feed_forwards(blocks: Blocks, skeleton: Skeleton, readers: Sequence[str]) -> Found | str:
    """Put the FFNs of a model together, each that can be without guessing; in words why none can.

    ``readers`` are the gates and ups. An FFN whose gate and up were mistaken for each other would look like no other, and a comparison
    would clear the model for the wrong reason: it is left out where only one of its matrices is in doubt.
    """
    units = {
        name: block
        for name, block in zip(readers, blocks.all_units(readers, skeleton.in_axis), strict=True)
        if block.any()
    }
    outs = zip(skeleton.ffn_out, blocks.all_units(skeleton.ffn_out, 1 - skeleton.in_axis), strict=True)
    downs = {name: block for name, block in outs if block.any()}
    scores = {name: sign_score(block) for name, block in units.items()} if skeleton.gated else {}
    gates = [name for name, score in scores.items() if score >= BENT]
    ups = [name for name in units if scores.get(name, 0.0) <= STRAIGHT]
    if skeleton.gated and (not gates or len(ups) < len(gates)):
        return (
            f"gates cannot be told from ups: the signs of {len(gates)} of {len(readers)} matrices are bent, of {len(ups)} straight, "
            "where half should be each"
        )
    up_of = _pair(list(downs), ups, lambda down, up: kinship(downs[down], units[up]))
    gate_of = _pair(
        list(up_of),
        gates,
        lambda down, gate: kinship(downs[down], units[gate]) + kinship(units[up_of[down][0]], units[gate]),
    )
    found = [
        FeedForward(gate_of[down][0] if gates else "", up, down)
        for down, (up, _) in up_of.items()
        if not skeleton.gated or down in gate_of
    ]
    if not found:
        return "it is not clear which matrices of the FFNs belong together"
    kin = [pairs[one.down][1] for one in found for pairs in (up_of, gate_of) if one.down in pairs]
    bent = [scores[one.gate] for one in found if one.gate]
    straight = [scores[one.up] for one in found if one.gate]
    return Found(tuple(found), min(bent, default=0.0), max(straight, default=0.0), min(kin))


def _pair(
    downs: Sequence[str], others: Sequence[str], score: Callable[[str, str], float]
) -> dict[str, tuple[str, float]]:
    """For each down the one that belongs to it, and how far it is ahead of every rival; where that is not clear, none."""
    if not downs or not others:
        return {}
    scores = np.array([[score(down, other) for other in others] for down in downs], dtype=np.float32)
    turned = len(downs) > len(others)
    columns, margins = assign(scores.T if turned else scores)
    pairs = [(int(column), row) if turned else (row, int(column)) for row, column in enumerate(columns)]
    clear = {}
    for (row, column), margin in zip(pairs, margins, strict=True):
        chosen = float(scores[row, column])
        # copies of one FFN (doubled layers, upcycled experts) are kin of each other and rivals
        if chosen >= _KIN and float(margin) >= max(_KIN / 2, _AHEAD * chosen):
            clear[downs[row]] = (others[column], float(margin))
    return clear
