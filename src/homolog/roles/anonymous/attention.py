"""Which matrices of an attention are queries, keys, values and outputs, whose FFN they stand before, and which gain they read through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.blocks import Blocks
from homolog.roles.anonymous.heads import Pairs, pair_grouped, pair_plain, pair_thirds
from homolog.roles.anonymous.joint import join
from homolog.roles.anonymous.skeleton import Skeleton
from homolog.roles.anonymous.statistics import assign, composition, swap_margins

__all__ = ["Attention", "Heads", "find_attention"]

_CLEAR = 0.15
"""What any exchange between two attentions must cost (`homolog.roles.anonymous.joint`); wrong ones on the zoo cost 0.07 at most."""
_FAR = 0.3
"""What it must cost where the flow into the FFN alone tells; wrong ones on the zoo cost 0.13 at most."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The attention before one FFN; with a fused projection ``value`` holds queries, keys and values. What is not known is empty."""

    value: str
    output: str
    query: str = ""
    key: str = ""
    gain: str = ""


@dataclass(frozen=True, slots=True)
class Attention:
    """What is known of the attention; FFNs are numbered as they were given."""

    heads: Mapping[int, Heads] = field(default_factory=dict)
    """By the FFN that they stand before."""
    reason: str = ""
    """Why there is nothing, or not all."""


def find_attention(
    blocks: Blocks,
    skeleton: Skeleton,
    fused: Sequence[str],
    readers: Sequence[Array],
    gains: Mapping[str, Array],
    head_dim: int,
) -> Attention:
    """Tell the kinds apart, put together what works on the same heads, and find the FFN that ``readers`` (units as rows) read first.

    ``fused`` are projections that hold queries, keys and values; ``gains`` those that may stand before an attention, none where it is not
    known that norms stand before the blocks; ``head_dim`` is 0 where it is not known.
    """
    if not blocks.whole:
        return Attention(
            reason="the attention was not looked at: the model is large, and its matrices were read in part"
        )
    if not (skeleton.squares or (skeleton.reading and skeleton.writing)):
        return Attention(reason="the attention has the shapes of something else")
    if len(readers) < skeleton.layers:
        return Attention(reason="the attention was not looked at: an FFN is missing that it may stand before")
    if skeleton.fused >= 0:
        return _fused(blocks, skeleton, fused, readers, gains, head_dim)
    if skeleton.in_axis:
        return Attention(reason="the attention was not looked at: matrices are stored turned")
    reading, writing = (*skeleton.squares, *skeleton.reading), (*skeleton.squares, *skeleton.writing)
    rows = dict(zip(reading, blocks.all_units(reading, 0), strict=True))
    columns = dict(zip(writing, blocks.all_units(writing, 1), strict=True))
    others = dict(zip(skeleton.projections, blocks.all_units(skeleton.projections, 0), strict=True))
    pairs = pair_grouped(rows, columns, others, head_dim) if others else pair_plain(rows, columns, head_dim)
    blocks_of = {**rows, **others}
    found = _place(pairs, blocks_of, columns, readers, gains)
    if others:
        return found
    heads = {place: replace(one, query="", key="") for place, one in found.heads.items()}
    return Attention(heads, "queries and keys are of one shape and kind: which is which is not known")


def _fused(
    blocks: Blocks,
    skeleton: Skeleton,
    fused: Sequence[str],
    readers: Sequence[Array],
    gains: Mapping[str, Array],
    head_dim: int,
) -> Attention:
    """Queries, keys and values lie in this order in every model that fuses them part by part: the last flows into an output."""
    outputs = dict(zip(skeleton.squares, blocks.all_units(skeleton.squares, 1 - skeleton.fused), strict=True))
    whole = dict(zip(fused, blocks.all_units(fused, skeleton.fused), strict=True))
    if len(whole) != len(outputs):
        return Attention(reason="the fused projections of the attention cannot be told from the FFNs")
    pairs = pair_thirds({name: np.split(block, 3)[2] for name, block in whole.items()}, outputs, head_dim)
    # what lies in one matrix is of one layer: queries and keys are those of the values
    parts = {f"{name}\0": np.concatenate(np.split(block, 3)[:2]) for name, block in whole.items()}
    values = {name: np.split(block, 3)[2] for name, block in whole.items()}
    known = replace(pairs, scores=tuple((f"{name}\0", "") for name, _ in pairs.flows))
    found = _place(known, {**parts, **values}, outputs, readers, gains, together=True)
    heads = {place: replace(one, query="", key="") for place, one in found.heads.items()}
    return Attention(heads, found.reason if len(heads) < len(readers) else "")


def _place(
    pairs: Pairs,
    blocks: Mapping[str, Array],
    outputs: Mapping[str, Array],
    readers: Sequence[Array],
    gains: Mapping[str, Array],
    *,
    together: bool = False,
) -> Attention:
    """Which queries and keys, which values and outputs and which gain make one attention, and the FFN that is the first to read it.

    All blocks have units as rows. Looked for at once where all of them were paired, because one that is missing lets another take its
    place; else outputs alone are put before the FFN into which most of what they write flows. ``together`` says that queries and keys are
    listed in the order of their values.
    """
    layers = len(readers)
    if not 1 < len(pairs.flows) <= layers:
        return Attention(reason="it is not clear which values flow into which outputs")
    flow = _flow([outputs[output] for _, output in pairs.flows], readers)
    if len(pairs.scores) == len(pairs.flows) == layers <= len(gains):
        scores = [np.concatenate([blocks[part] for part in pair if part]) for pair in pairs.scores]
        values = [blocks[value] for value, _ in pairs.flows]
        solved = join(scores, values, list(gains.values()), readers, flow, together=together)
        names = list(gains)
        heads = {
            int(solved.places[row]): _named(
                pairs.flows[solved.values[row]], pairs.scores[row], names[solved.gains[row]]
            )
            for row in np.flatnonzero(solved.margins >= _CLEAR)
        }
        return Attention(heads, "" if len(heads) == layers else "it is not clear what belongs to every attention")
    columns, _ = assign(flow)
    margins = swap_margins(flow, columns)
    heads = {int(columns[row]): Heads(*pairs.flows[row]) for row in np.flatnonzero(margins >= _FAR)}
    return Attention(heads, "it is not clear which queries and keys belong to which values")


def _named(flow: tuple[str, str], score: tuple[str, str], gain: str) -> Heads:
    (value, output), (query, key) = flow, score
    return Heads(value, output, query, key, gain)


def _flow(writers: Sequence[Array], readers: Sequence[Array]) -> Array:
    """Logarithm of the composition of each writer with each reader, centred both ways."""
    flow = np.array([[composition(reader, writer) for reader in readers] for writer in writers])
    logs = np.log(np.maximum(flow, 1e-20))
    logs = logs - logs.mean(axis=0)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True), dtype=np.float32)
