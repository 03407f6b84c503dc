"""What one checkpoint says of itself: the finding, its sentences and its warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from homolog.checkpoint.base import Array
from homolog.probes.alone.alike import Alike, AlikeGroup, find_alike
from homolog.probes.alone.basis import Basis, weigh_basis
from homolog.probes.alone.copies import Copies, Group, find_copies
from homolog.probes.indices import Rngs
from homolog.roles.role import Anatomy, Role, Space
from homolog.sketch.sketch import Sketch, UnitBlock

if TYPE_CHECKING:
    from homolog.align.body import Body

__all__ = ["Alone", "look_alone", "look_at_sketch", "norm_gains"]

_CAP = -30
"""Exponent below which words do not go: there, the assumptions are the weaker link."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One checkpoint against itself."""

    copies: Copies = field(default_factory=Copies)
    alike: Alike = field(default_factory=Alike)
    basis: Basis = field(default_factory=Basis)

    @classmethod
    def missing(cls, reason: str) -> Alone:
        """Not looked at, with the reason."""
        return cls(Copies(absent=reason), Alike(absent=reason), Basis(absent=reason))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, a sentence each; empty if nothing was."""
        return (*_say_copies(self.copies.groups), *_say_alike(self.alike))

    @property
    def summary(self) -> str:
        """One sentence where nothing was found: what was looked at, or why it could not be."""
        if self.copies.absent is not None:
            return f"not compared with itself: {self.copies.absent}"
        return f"of the {self.copies.blocks} FFNs that were read no two are shown to have begun as one"

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "sentences": list(self.sentences),
            "summary": self.summary,
            "copies": self.copies.to_json(),
            "alike": self.alike.to_json(),
            "basis": self.basis.to_json(),
        }


def look_alone(
    anatomy: Anatomy,
    blocks: Sequence[UnitBlock],
    gains: Sequence[Array],
    read_rows: Callable[[], Sequence[Array]],
    rngs: Callable[..., Rngs],
    *,
    tests: int | None = None,
    alike: str | None = None,
    body: Body | None = None,
) -> Alone:
    """All that is asked of one model. ``alike`` says why units under other names are not looked for, if they are not; of a large model
    they are looked for in its ``body``. For the rest see `find_copies`, `find_alike` and `weigh_basis`.
    """
    ordered = anatomy.traits.ordered.get(Space.FFN)
    with np.errstate(all="ignore"):  # NaN and Inf of a broken checkpoint are reported by name, not by warning
        copies = find_copies(blocks, rngs, ordered=ordered, tests=tests)
        known = [group.blocks for group in copies.groups]
        centred = anatomy.traits.pre_norm and anatomy.traits.norm == "layer"
        rng = rngs("alone")("alike")
        if body is not None:
            shared = find_alike(_blocks_of(body), known, centred=False, rng=rng)
        else:
            shared = Alike(absent=alike) if alike else find_alike(blocks, known, centred=centred, rng=rng)
        return Alone(copies, shared, weigh_basis(gains, read_rows, rngs("alone")("basis")))


def _blocks_of(body: Body) -> list[UnitBlock]:
    """The FFNs of a body, of large ones the units of the largest effect: what is centred and folded already."""
    blocks = []
    for block in body.blocks:
        units = block.units
        up, gate = (units.gate, None) if units.up is None else (units.up, units.gate)
        blocks.append(
            UnitBlock(block.layer, block.expert, block.shared, len(units), up, gate, units.down, None, digest=b"")
        )
    return blocks


def look_at_sketch(
    sketch: Sketch, rngs: Callable[..., Rngs], *, tests: int | None = None, body: Body | None = None
) -> Alone:
    """`look_alone` of a model that was read for a comparison: nothing more is read."""
    width = sketch.anatomy.dims.width

    def rows() -> list[Array]:
        parts = [
            part for block in sketch.units if not block.flaw for part in (block.gate, block.up) if part is not None
        ]
        return [part for part in parts if part.shape[1] == width] if not sketch.frame else []

    return look_alone(
        sketch.anatomy,
        sketch.units,
        norm_gains(sketch.channels, width),
        rows,
        rngs,
        tests=tests,
        alike="a sketch holds no units whole" if sketch.frame else None,
        body=body,
    )


def norm_gains(channels: Mapping[Role, Array], width: int) -> list[Array]:
    """What the norms on the residual stream multiply by, of all vectors over it."""
    return [
        vector
        for role, vector in channels.items()
        if role.kind.startswith("norm.") and role.part == "weight" and vector.shape == (width,)
    ]


def _say_copies(groups: Sequence[Group]) -> Iterator[str]:
    for kind in ("every_layer", "experts", "layers", "blocks"):
        found = [group for group in groups if group.kind == kind]
        if found:
            yield f"{_begin(found)}: {_agree(found)}"
            if same := [group for group in found if group.identical]:
                count = sum(len(group.blocks) for group in same)
                yield f"of these, {count} hold the same numbers in every row that was read"


def _begin(groups: Sequence[Group] | Sequence[AlikeGroup]) -> str:
    kind, layers = groups[0].kind, sorted({layer for group in groups for layer in group.layers})
    if kind == "every_layer":
        return (
            f"all {len(layers)} layers began as copies of one or from the same random numbers, as torch's nn.TransformerEncoder makes "
            "them before training, which says nothing of any other model"
        )
    if kind == "experts":
        count = sum(len(group.blocks) for group in groups)
        return f"experts of one layer began as one FFN, {count} of them in {_where(layers)}"
    if kind == "layers":
        pairs = ", ".join(" = ".join(map(str, group.layers)) for group in groups)
        return f"layers {pairs} began as copies of each other"
    count = sum(len(group.blocks) for group in groups)
    return f"FFNs and experts of several layers began as one, {count} of them in {_where(layers)}"


def _agree(groups: Sequence[Group]) -> str:
    weakest = max(groups, key=lambda group: group.log10_p)
    exponent = max(_CAP, -int(-weakest.log10_p))
    return (
        f"at least {weakest.statistic} of {weakest.of} units stand at the same place as the one that they resemble most, where chance "
        f"gives about 1 (p at most 10^{exponent})"
    )


def _say_alike(alike: Alike) -> Iterator[str]:
    for kind in ("every_layer", "experts", "layers", "blocks"):
        found = [group for group in alike.groups if group.kind == kind]
        if found:
            count = sum(len(group.blocks) for group in found)
            layers = sorted({layer for group in found for layer in group.layers})
            yield (
                f"{count} FFNs or experts in {_where(layers)} share units that stand at other places, on calibrated and not exact "
                f"evidence: up to {100 * max(group.most for group in found):.0f}% of the units of one have a partner in another that all "
                f"their vectors point to, and {100 * (alike.threshold or 0):g}% are asked for"
            )


def _where(layers: Sequence[int]) -> str:
    """Runs of layers: ``layers 0–3, 5``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    numbers = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
    return f"layer {numbers}" if len(layers) == 1 else f"layers {numbers}"
