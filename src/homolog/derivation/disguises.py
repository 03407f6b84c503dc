"""What was done to hide a copy, or to serve it faster: read off two aligned bodies, never evidence by itself.

Quantisers rotate residual streams and rescale channels for good reasons; that a stream was rotated is a fact and no sign of guilt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from homolog.align.agreement import match_units
from homolog.align.body import Body
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array
from homolog.derivation.bodies import SecondLook
from homolog.derivation.layers import LayerOrigin
from homolog.derivation.operations import Operation
from homolog.probes.ffn import usable_blocks
from homolog.probes.pair import Pair

__all__ = ["describe_frame", "name_disguises"]

_ALONE = 0.4
"""Share of a row's length in its largest entry from which a map is one channel to one channel; less in frames that hold fewer directions.
The largest of 64 entries of a random rotation holds 0.13 on average."""

_MOST_ROWS = 0.5
_SPREAD, _OPPOSED = 0.15, -0.8
"""Deviation of the logarithm of the ratio of ups, and its correlation with that of downs, from which scales were moved between them."""

_FLAT = 1e-3


def name_disguises(
    pair: Pair, origins: Sequence[LayerOrigin], look: SecondLook, frame: Frame | None, *, indices_agree: bool
) -> tuple[Operation, ...]:
    """Disguises seen between A and B.

    ``frame`` carries A's residual stream to B's where it is known that the files' own frame does not; ``indices_agree`` says whether FFN
    units kept their indices in the layers that ``origins`` pair. Where they did not, what is said of units needs aligned bodies that agree.
    """
    found = []
    if frame is not None and (moved := describe_frame(frame)) is not None:
        found.append(moved)
    if folded := _folded(pair):
        found.append(folded)
    if indices_agree:
        found.extend(_scaled(*_lengths_in_place(pair, origins)))
    elif look.bodies is not None and look.finding.related:
        agreement = look.finding.agreement
        detail = f"{agreement.body:.0%} of the units of the median layer have one partner in the other model, at another index"
        found.append(Operation("units_permuted", detail))
        found.extend(_split(look.bodies))
        matched = match_units(*look.bodies, agreement)
        if all(len(part) for part in matched[1]):
            found.extend(_scaled(*(_log_ratios(matched[0][part], matched[1][part]) for part in (1, 2))))
    return tuple(found)


def describe_frame(frame: Frame) -> Operation | None:
    """How the channels of B's stream follow from A's: a signed permutation is tried first; ``None`` if each is its own."""
    turn = frame.a @ frame.b.T
    square = turn * turn
    whole = np.maximum(square.sum(axis=1), 1e-12)
    best = square.argmax(axis=1)
    alone = square[np.arange(len(turn)), best] / whole
    if float(np.median(alone)) < _ALONE * min(1.0, frame.rank / max(turn.shape)):
        detail = "each residual channel of A is spread over many of B: the stream is in another basis"
        return Operation("residual_rotated", detail)
    sign = np.sign(turn[np.arange(len(turn)), best])
    kept = float((best == np.arange(len(turn))).mean())
    flipped = int((sign < 0).sum())
    if kept > _MOST_ROWS and flipped <= len(turn) // 20:
        return None
    if kept > _MOST_ROWS:
        return Operation("residual_permuted", f"{flipped} of {len(turn)} residual channels of B have the other sign")
    signs = f", {flipped} of them with the other sign" if flipped > len(turn) // 20 else ""
    return Operation("residual_permuted", f"the {len(turn)} residual channels of A stand in B in another order{signs}")


def _folded(pair: Pair) -> Operation | None:
    """Norm gains that vary in A and are all equal in B."""
    varies = []
    for sketch in (pair.a, pair.b):
        gains = [v for role, v in sketch.channels.items() if role.kind.startswith("norm.") and role.part == "weight"]
        varies.append([bool(v.std() > _FLAT * max(float(np.abs(v.mean())), 1e-6)) for v in gains])
    if any(varies[0]) and varies[1] and not any(varies[1]):
        return Operation("rescaled", "the norm gains of B are all equal: those of A are folded into the matrices")
    return None


def _split(bodies: tuple[Body, Body]) -> Iterator[Operation]:
    opposed = [sum(block.opposed for block in side.blocks) for side in bodies]
    merged = [sum(block.merged for block in side.blocks) - found for side, found in zip(bodies, opposed, strict=True)]
    if bodies[1].signless and opposed[1] > 2 * opposed[0]:
        detail = (
            f"{opposed[1]} units of B stand beside units of the opposite gate: a unit of the other sign and two that make up for it "
            "compute what one did"
        )
        yield Operation("gates_flipped", detail)
    if merged[1] > 2 * merged[0] and merged[1] > 0.05 * bodies[1].units:
        detail = (
            f"{merged[1]} units of B have the gate of another: together they are units of A, or they cancel each other"
        )
        yield Operation("units_split", detail)


def _scaled(ups: Array, downs: Array) -> Iterator[Operation]:
    """From the logarithms of the ratios of lengths, B's over A's, of what units multiply with and of what they write."""
    if len(ups) < 8 or min(ups.std(), downs.std()) < _SPREAD:
        return
    if float(np.corrcoef(ups, downs)[0, 1]) < _OPPOSED:
        yield Operation("rescaled", "what units of B multiply with is scaled, and what they write is scaled back")


def _lengths_in_place(pair: Pair, origins: Sequence[LayerOrigin]) -> tuple[Array, Array]:
    """Log ratios of ups and of downs at equal index, over gated FFNs of equal width whose output matrices were read."""
    blocks = {(block.layer, block.expert, block.shared): block for block in usable_blocks(pair.a)}
    sources = {origin.b: origin.a for origin in origins if origin.a is not None}
    ups: tuple[list[Array], list[Array]] = ([], [])
    downs: tuple[list[Array], list[Array]] = ([], [])
    for block in usable_blocks(pair.b):
        source = blocks.get((sources.get(block.layer, -1), block.expert, block.shared))
        if source is None or source.width != block.width or block.gate is None:
            continue
        if source.down is None or block.down is None or source.up.shape[0] != block.up.shape[0]:
            continue
        for side, units in enumerate((source, block)):
            ups[side].append(units.up)
            downs[side].append(source.down if side == 0 else block.down)
    if not ups[0]:
        return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32)
    return _log_ratios(*ups), _log_ratios(*downs)


def _log_ratios(a: Sequence[Array], b: Sequence[Array]) -> Array:
    lengths = [np.concatenate([np.sqrt(np.einsum("ij,ij->i", x, x)) for x in side]) for side in (a, b)]
    whole = (lengths[0] > 0) & (lengths[1] > 0)
    return np.asarray(np.log(np.where(whole, lengths[1], 1) / np.where(whole, lengths[0], 1)), dtype=np.float32)
