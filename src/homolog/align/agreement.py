"""Agreement of two bodies: the share of units whose gate, up and down each point to the same partner, in a frame fitted to gates alone.

Likeness of one vector can be had by doing the same job. That three vectors of a unit, two of which the frame never saw, all name the same
unit of the other model is what copies have and independent models do not. There is no exact null distribution for it, because whatever
keeps the function keeps this number too: it is compared with its distribution over independent models (docs/statistics.md).

A unit is looked up in the whole layer that its FFN came from: in a mixture its gate finds the expert, whichever that is, and the other two
vectors have to find the unit among those of that expert. So it does not matter how the units of a layer were dealt out to experts, experts
that are copies of each other stand in nobody's way, and chance has as few units to hit as in one FFN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import numpy.typing as npt

from homolog.align.body import Block, Body
from homolog.align.matching import unit_rows
from homolog.align.residual import Frame
from homolog.align.rotation import fit_body_frame
from homolog.checkpoint.base import Array

__all__ = ["NOTHING", "Agreement", "DirectedAgreement", "match_units", "measure_agreement", "share_in_frame"]

_TESTED = 256
"""Units of a truncated FFN that are looked up among all that the other side has kept."""


@dataclass(frozen=True, slots=True)
class DirectedAgreement:
    """Units of one model looked up in the other."""

    by_layer: Mapping[int, float]
    """Layer → share of its units whose parts all point to the same partner."""
    sources: Mapping[int, int]
    """Layer → the layer of the other model whose gates are most alike: chosen without looking at ups, downs or indices."""

    @property
    def median(self) -> float:
        """Over the layers; 0 if there are none."""
        return float(np.median(list(self.by_layer.values()))) if self.by_layer else 0.0


NOTHING = DirectedAgreement({}, {})


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two bodies agree, or why that could not be asked."""

    b_in_a: DirectedAgreement = NOTHING
    a_in_b: DirectedAgreement = NOTHING
    fit: float = 0.0
    """Mean squared cosine of partners' gates in that frame."""
    frame: Frame | None = None
    """Of the two bodies, fitted to gates."""
    given: DirectedAgreement = NOTHING
    """Units of B looked up in A in another frame, that of the embeddings or of the files: never the statistic, because universal
    features at the ends of the stack agree there in unrelated models."""
    absent: str | None = None
    signless: bool = False
    """Whether gates were compared up to their sign, because in one of the bodies they stand beside their opposites."""

    @property
    def best_layer(self) -> float:
        """The largest share of any layer, in either direction: what is left where most layers are new."""
        return max([*self.b_in_a.by_layer.values(), *self.a_in_b.by_layer.values()], default=0.0)

    @property
    def body(self) -> float:
        """The statistic: the larger of both directions, as a model may hold more units than the other or the same ones twice."""
        return max(self.b_in_a.median, self.a_in_b.median)


def measure_agreement(a: Body, b: Body, given: Frame | None = None) -> Agreement:
    """Agreement of two bodies in the body frame and, for information, in the frame ``given``. Deterministic, nothing random."""
    for name, body in (("A", a), ("B", b)):
        if not body.blocks:
            return Agreement(absent=f"{name} has no FFN whose units read and write the residual stream")
    if a.gated != b.gated:
        return Agreement(absent="the FFNs are of different kinds (gated or plain)")
    signless = a.signless or b.signless
    frame, fit = fit_body_frame(a, b, signless=signless)
    look_up = partial(_look_up, signless=signless)
    known = NOTHING if given is None else look_up(b, a, Frame(given.b, given.a))
    forth, back = look_up(b, a, Frame(frame.b, frame.a)), look_up(a, b, frame)
    return Agreement(forth, back, fit, frame, known, signless=signless)


def share_in_frame(a: Body, b: Body, frame: Frame, *, signless: bool) -> float:
    """Agreement of two bodies in a frame that no vector of a unit had a say in, so that all of them are witnesses."""
    forth = _look_up(b, a, Frame(frame.b, frame.a), signless=signless)
    return max(forth.median, _look_up(a, b, frame, signless=signless).median)


def match_units(a: Body, b: Body, agreement: Agreement) -> tuple[tuple[list[Array], ...], tuple[list[Array], ...]]:
    """Units of A and of B that are each other's: for each side the gates, ups and downs, a list of blocks (n, d), n the same on both.

    Partners are mutual nearest gates between a layer of B and the layer of A that it came from. Empty lists without a frame.
    """
    found: tuple[tuple[list[Array], ...], tuple[list[Array], ...]] = (([], [], []), ([], [], []))
    if agreement.frame is None:
        return found
    for block in b.blocks:
        gates = unit_rows(block.units.gate @ agreement.frame.b)
        best: tuple[float, Block, npt.NDArray[np.intp], npt.NDArray[np.intp]] | None = None
        for other in a.blocks:
            if other.layer != agreement.b_in_a.sources.get(block.layer):
                continue
            cosine = gates @ unit_rows(other.units.gate @ agreement.frame.a).T
            cosine = np.abs(cosine) if agreement.signless else cosine
            partner = cosine.argmax(axis=1)
            mutual = np.flatnonzero(cosine.argmax(axis=0)[partner] == np.arange(len(partner)))
            score = float(cosine[mutual, partner[mutual]].sum())
            if best is None or score > best[0]:
                best = (score, other, partner[mutual], mutual)
        if best is not None:
            _, other, theirs, mine = best
            for side, units, rows in ((0, other.units, theirs), (1, block.units, mine)):
                for part, values in enumerate(units.parts):
                    found[side][part].append(values[rows])
    return found


def _look_up(wanted: Body, among: Body, frame: Frame, *, signless: bool) -> DirectedAgreement:
    """``frame.a`` belongs to the body ``wanted``, ``frame.b`` to ``among``."""
    blocks = sorted(among.blocks, key=lambda block: block.layer)
    turned = [_turn(block, frame.b, gated=among.gated) for block in blocks]
    starts = np.cumsum([0, *(len(parts[0]) for parts in turned)]).tolist()
    gates = np.concatenate([parts[0] for parts in turned])
    layers = [list(places) for _, places in groupby(range(len(blocks)), key=lambda place: blocks[place].layer)]
    agreed: dict[int, list[npt.NDArray[np.bool_]]] = {}
    votes: dict[int, dict[int, float]] = {}
    for block in wanted.blocks:
        parts = _turn(block, frame.a, gated=wanted.gated, most=_most(block))
        cosine = parts[0] @ gates.T
        cosine = np.abs(cosine) if signless else cosine
        ends = [(starts[places[0]], starts[places[-1] + 1]) for places in layers]
        score = [float(cosine[:, x:y].max(axis=1).mean()) for x, y in ends]
        best = int(np.argmax(score))
        start, stop = ends[best]
        partner = start + cosine[:, start:stop].argmax(axis=1)
        same = np.zeros(len(partner), dtype=bool)
        for place in layers[best]:
            here = np.flatnonzero((partner >= starts[place]) & (partner < starts[place + 1]))
            if len(here):
                own = [part[here] for part in parts]
                same[here] = _same_partner(own, turned[place], partner[here] - starts[place])
        agreed.setdefault(block.layer, []).append(same)
        source = votes.setdefault(block.layer, {})
        layer = blocks[layers[best][0]].layer
        source[layer] = source.get(layer, 0.0) + score[best]
    shares = {layer: float(np.concatenate(units).mean()) for layer, units in agreed.items()}
    return DirectedAgreement(
        shares, {layer: max(found, key=lambda k: (found[k], -k)) for layer, found in votes.items()}
    )


def _same_partner(
    parts: Sequence[Array], others: Sequence[Array], partner: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """Whether what a unit multiplies with and what it writes point to the partner that its gate points to.

    The sign of up and down is free jointly, so they count by their absolute cosines; in a plain FFN there is no free sign.
    """
    same = np.ones(len(partner), dtype=bool)
    for mine, theirs in zip(parts[1:], others[1:], strict=True):
        cosine = mine @ theirs.T
        same &= (np.abs(cosine) if len(parts) == 3 else cosine).argmax(axis=1) == partner
    return same


def _turn(block: Block, basis: Array, *, gated: bool, most: int | None = None) -> list[Array]:
    units = block.units if most is None else block.units.take(block.units.strongest(most))
    parts = units.parts if gated else (units.gate, units.down)
    return [unit_rows(part @ basis) for part in parts]


def _most(block: Block) -> int | None:
    """Where a large FFN was cut to its strongest units, only the stronger half is sure to be among those that the other side kept."""
    return min(_TESTED, len(block.units) // 2) if block.cut else None
