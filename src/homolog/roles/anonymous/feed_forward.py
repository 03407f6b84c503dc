"""Which gate, up and down belong together, and which of two equal shapes is the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.blocks import Blocks
from homolog.roles.anonymous.skeleton import Skeleton
from homolog.roles.anonymous.statistics import assign, kinship, sign_score, tie_lead

__all__ = ["LEAD", "FeedForward", "Found", "find_feed_forwards", "gate_lead"]

LEAD = 3.0
"""Standard deviations by which a gate must be told from an up; on the zoo the wrong one of two never leads by more than 2.4."""
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
    least_lead: float
    """Standard deviations by which the least clear gate is told from its up; 0 in plain FFNs."""
    least_kin: float
    """Smallest kinship of matrices that were put together, over that of their best rivals."""


def find_feed_forwards(blocks: Blocks, skeleton: Skeleton, readers: Sequence[str]) -> Found | str:
    """Put the FFNs of a model together, each that can be without guessing; in words why none can.

    ``readers`` are the gates and ups. An FFN whose gate and up were mistaken for each other would look like no other, and a comparison
    would clear the model for the wrong reason: it is left out where only one of its matrices is in doubt.
    """
    read = zip(readers, blocks.all_units(readers, skeleton.in_axis), strict=True)
    units = {name: block for name, block in read if block.any()}
    written = zip(skeleton.ffn_out, blocks.all_units(skeleton.ffn_out, 1 - skeleton.in_axis), strict=True)
    downs = {name: block for name, block in written if block.any()}
    together = _put_together(downs, units, 2 if skeleton.gated else 1)
    if not together:
        return "it is not clear which matrices of the FFNs belong together"
    kin = min(margin for _, margin in together.values())
    if not skeleton.gated:
        return Found(tuple(FeedForward("", up, down) for down, ((up,), _) in together.items()), 0.0, kin)
    signs = {name: sign_score(block) for name, block in units.items()}
    found, leads = [], []
    for down, ((one, other), _) in together.items():
        lead = gate_lead(signs[one], signs[other], tie_lead(units[other], units[one], downs[down]))
        gate, up = (one, other) if lead > 0 else (other, one)
        if abs(lead) >= LEAD:
            found.append(FeedForward(gate, up, down))
            leads.append(abs(lead))
    if not found:
        return f"gates cannot be told from ups: no pair of {len(together)} differs by {LEAD:.0f} standard deviations"
    return Found(tuple(found), min(leads), kin)


def gate_lead(signs: float, other_signs: float, tied: float) -> float:
    """How much more a matrix looks like a gate than the other, in standard deviations of two matrices of one kind.

    Its rows lean more to one side (`sign_score` of both), and the other's are tied to the downs more closely (`tie_lead`).
    """
    return float(((signs - other_signs) / np.sqrt(2.0) + tied) / np.sqrt(2.0))


def _put_together(
    downs: Mapping[str, Array], units: Mapping[str, Array], each: int
) -> dict[str, tuple[tuple[str, ...], float]]:
    """For each down the ``each`` readers that belong to it, and how far they are ahead of every rival; where that is not clear, none."""
    names, readers = list(downs), list(units)
    if not names or len(readers) < each * len(names):
        return {}
    scores = np.array([[kinship(downs[down], units[reader]) for reader in readers] for down in names], dtype=np.float32)
    columns, _ = assign(np.tile(scores, (each, 1)))
    owned = columns.reshape(each, -1).T
    if each > 1:  # a gate and an up are kin of each other as well
        kin = np.array([[kinship(units[one], units[other]) for other in readers] for one in readers], dtype=np.float32)
    else:
        kin = np.zeros((len(readers), len(readers)), dtype=np.float32)
    clear = {}
    for row, down in enumerate(names):
        own = owned[row].tolist()
        margin = min(_margin(scores, kin, owned, row, reader) for reader in own)
        least = min(float(scores[row, reader] + kin[reader, own].sum() - kin[reader, reader]) for reader in own)
        # copies of one FFN (doubled layers, upcycled experts) are kin of each other and rivals
        if least >= _KIN and margin >= max(_KIN / 2, _AHEAD * least):
            clear[down] = (tuple(readers[reader] for reader in own), margin)
    return clear


def _margin(scores: Array, kin: Array, owned: np.ndarray, row: int, reader: int) -> float:
    """How much more of a kin a reader is to its own FFN than any other reader is, and than it is to any other FFN."""

    def kinship_of(which: int, to: int, without: int) -> float:
        others = [member for member in owned[to].tolist() if member != without]
        return float(scores[to, which] + sum(kin[which, member] for member in others))

    own = kinship_of(reader, row, reader)
    rivals = [kinship_of(which, row, reader) for which in range(scores.shape[1]) if which not in owned[row]]
    places = [
        kinship_of(reader, to, without) for to in range(len(scores)) if to != row for without in owned[to].tolist()
    ]
    return own - max([*rivals, *places], default=0.0)
