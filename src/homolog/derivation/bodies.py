"""The second look: the bodies of two models aligned, where indices in the frame of the files and of the embeddings have not settled it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from homolog.align.agreement import measure_agreement, share_in_frame
from homolog.align.attention import measure_heads, read_heads
from homolog.align.body import Body, read_body
from homolog.align.heat import measure_heat
from homolog.align.residual import Frame
from homolog.bank.storage import load_bank
from homolog.checkpoint.base import Array, Checkpoint
from homolog.derivation.layers import LayerOrigin
from homolog.probes.agreement import BodyFinding, weigh_agreement
from homolog.probes.attention import weigh_heads
from homolog.probes.pair import Pair
from homolog.roles.role import Anatomy
from homolog.sketch.sketch import Sketch

__all__ = ["SecondLook", "align_bodies", "trace_by_bodies"]

_RECOGNISED = 0.1
"""Share of a layer's units that have to agree for its source to be named; wrong layers reach one unit in a hundred."""


@dataclass(frozen=True, slots=True)
class SecondLook:
    """The bodies as read, and what their agreement says."""

    finding: BodyFinding = field(default_factory=BodyFinding)
    bodies: tuple[Body, Body] | None = None

    @property
    def frame(self) -> Frame | str:
        """The body frame, or why there is none."""
        return self.finding.agreement.frame or self.finding.absent or "the bodies could not be aligned"


def align_bodies(
    models: Sequence[Checkpoint], anatomies: Sequence[Anatomy], pair: Pair, given: Frame | None
) -> SecondLook:
    """Read both bodies, units in random order, and measure how far they agree, for information in the frame ``given`` too.

    Raises CheckpointError where a file cannot be read.
    """
    # Heads first: of these little is kept, so that nothing large is held beside what bodies take.
    asking_a, asking_b = (read_heads(model, anatomy) for model, anatomy in zip(models, anatomies, strict=True))
    first, second = (
        read_body(model, anatomy, shuffle=pair.rngs("body", side), tokens=_tokens(sketch))
        for side, sketch, model, anatomy in zip("ab", (pair.a, pair.b), models, anatomies, strict=True)
    )
    widths = (first.width, second.width)
    known = given if given is not None and (len(given.a), len(given.b)) == widths else None
    agreement = measure_agreement(first, second, known)
    heads = measure_heads(asking_a, asking_b, [start for start in (known, agreement.frame) if start is not None])
    units = None
    if heads.frame is not None and agreement.absent is None:
        units = share_in_frame(first, second, heads.frame, signless=agreement.signless)
    bank = load_bank()
    finding = weigh_agreement(agreement, weigh_heads(heads, units, bank), bank, anatomies)
    frame = agreement.frame
    heat = None if frame is None else measure_heat(first, second, frame)
    return SecondLook(replace(finding, heat=heat), (first, second))


def _tokens(sketch: Sketch) -> Array | None:
    """Rows of ordinary tokens as the file has them."""
    table = sketch.tokens.get("embed")
    return None if table is None or table.flaw or not len(table.ordinary) else table.ordinary


def trace_by_bodies(look: SecondLook) -> tuple[LayerOrigin, ...]:
    """Where the layers of B came from, by agreement of units: for copies whose units have lost their indices."""
    assert look.bodies is not None
    sizes: dict[int, int] = {}
    for block in look.bodies[1].blocks:
        sizes[block.layer] = sizes.get(block.layer, 0) + len(block.units)
    found = look.finding.agreement.b_in_a
    return tuple(
        LayerOrigin(
            layer, found.sources[layer] if share >= _RECOGNISED else None, share * (share >= _RECOGNISED), size, False
        )
        for layer, size in sorted(sizes.items())
        for share in [found.by_layer[layer]]
    )
