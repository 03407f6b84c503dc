"""From shapes and values to an anatomy, for a checkpoint whose names say nothing.

Every step keeps only what is beyond doubt and says what it left out. What is chosen is chosen within one model, by statistics that treat
units and channels alike (`homolog.roles.anonymous.statistics`), and before anything is compared: a test of indices stays valid even where a
role is wrong, because a wrong role is wrong for every index alike; it can only see less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.anonymous.attention import Attention, find_attention
from homolog.roles.anonymous.blocks import Blocks
from homolog.roles.anonymous.feed_forward import FeedForward, Found, find_feed_forwards
from homolog.roles.anonymous.norms import match_gains, split_gains
from homolog.roles.anonymous.skeleton import Skeleton, find_skeleton
from homolog.roles.anonymous.statistics import unit_rows
from homolog.roles.role import Anatomy, Dims, Role, Space, Traits, View

__all__ = ["INFERRED", "infer_roles"]

INFERRED = "inferred"
"""The architecture of an anatomy whose roles were inferred."""
_TABLE_ROWS = 4096
_LEANING = 4.0
"""How many times more the rows of an unembedding lean to one side than those of an embedding."""
_SMOOTH = 0.3
"""Median cosine of neighbouring rows above that of rows far apart, from which on a table counts positions."""
_HEADS = (("num_attention_heads", "n_head", "num_heads"), ("num_key_value_heads", "num_kv_heads"))
_NOT_PLACED = "the roles were inferred without names, and where this tensor belongs is not beyond doubt"


@dataclass(slots=True)
class _Draft:
    """Roles as they are found."""

    skeleton: Skeleton
    views: dict[Role, View] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        role: Role,
        tensor: str,
        axes: Sequence[Space],
        shape: tuple[int, ...],
        *,
        cut: tuple[int, int, int] | None = None,
    ) -> None:
        axis, start, stop = cut or (0, 0, None)
        self.views[role] = View(tensor, tuple(axes), shape, axis, start, stop)


def infer_roles(checkpoint: Checkpoint) -> Anatomy | str:
    """The anatomy, or in words why no role could be inferred."""
    skeleton = find_skeleton(checkpoint.tensors)
    if isinstance(skeleton, str):
        return skeleton
    if skeleton.routed:
        return "a mixture of experts, whose experts cannot be put in their layers without names"
    blocks = Blocks(checkpoint)
    with np.errstate(all="ignore"):
        return _infer(checkpoint, skeleton, blocks)


def _infer(checkpoint: Checkpoint, skeleton: Skeleton, blocks: Blocks) -> Anatomy | str:
    found = find_feed_forwards(blocks, skeleton, skeleton.ffn_in)
    if isinstance(found, str):
        return found
    draft = _Draft(skeleton)
    forwards = found.forwards
    readers = [blocks.all_units([name for name in (one.gate, one.up) if name], skeleton.in_axis) for one in forwards]
    gains, _ = split_gains({name: blocks.vector(name) for name in skeleton.vectors}, skeleton.width)
    # one norm before every block, one behind the last, and perhaps one behind the embeddings: of more or fewer it is not known what they do
    usual = len(gains) - 2 * skeleton.layers in (1, 2)
    ffn_gains = match_gains(readers, gains) if usual else {}
    heads, kv_heads, head_dim = _heads(checkpoint, skeleton)
    fused = [name for name in (*skeleton.projections, *skeleton.ffn_in) if not _taken(name, forwards)]
    stacked = [np.concatenate(block) for block in readers]
    left = {name: gains[name] for name in gains if name not in ffn_gains.values()} if ffn_gains else {}
    attention = find_attention(blocks, skeleton, fused, stacked, left, head_dim)
    order, clear = _order(checkpoint, forwards)
    for layer, place in enumerate(order):
        _add_feed_forward(draft, forwards[place], layer)
        if place in ffn_gains:
            draft.add(Role("norm.ffn", layer=layer), ffn_gains[place], [Space.RESIDUAL], (skeleton.width,))
        _add_heads(draft, attention, place, layer)
    _add_final_norm(draft, gains, len(order))
    _add_tables(draft, blocks)
    blocks.forget()
    placed = {view.tensor for view in draft.views.values()}
    unused = {name: _NOT_PLACED for name in checkpoint.tensors if name not in placed}
    return Anatomy(
        architecture=INFERRED,
        dims=Dims(
            layers=len(order),
            width=skeleton.width,
            ffn=skeleton.ffn,
            vocab=_vocabulary(draft),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
        ),
        traits=Traits(gated=skeleton.gated, norm="rms", pre_norm=bool(ffn_gains), ordered=_ORDERED),
        views=dict(sorted(draft.views.items())),
        unused=unused,
        missing=(),
        notes=tuple(_notes(skeleton, found, draft, attention, len(placed), len(checkpoint.tensors), clear)),
    )


_ORDERED = {
    "attn.q query": "it is not known whether positions order the dimensions of a query",
    "attn.k kv": "it is not known whether positions order the dimensions of a key",
}


def _taken(name: str, forwards: Sequence[FeedForward]) -> bool:
    return any(name in (one.gate, one.up) for one in forwards)


def _heads(checkpoint: Checkpoint, skeleton: Skeleton) -> tuple[int, int, int]:
    """Heads, key heads and their dimension as config.json has them, if they fit the shapes; else zeros."""
    stated = [next((checkpoint.config.get(key) for key in keys if checkpoint.config.get(key)), None) for keys in _HEADS]
    heads = stated[0]
    if type(heads) is not int or heads <= 0 or skeleton.query % heads:
        return 0, 0, 0
    size = skeleton.query // heads
    if skeleton.kv % size or stated[1] not in (None, skeleton.kv // size):
        return 0, 0, 0
    return heads, skeleton.kv // size, size


def _order(checkpoint: Checkpoint, forwards: Sequence[FeedForward]) -> tuple[list[int], bool]:
    """FFNs in the order in which the file holds them, and whether it holds them one after the other.

    A file that was written layer by layer still tells their order. In a file whose tensors were shuffled, or sorted by names that say
    nothing, the numbers of layers are mere names.
    """
    place = {name: number for number, name in enumerate(checkpoint.stored_order())}
    spans = [sorted(place[name] for name in (one.gate, one.up, one.down) if name) for one in forwards]
    order = sorted(range(len(forwards)), key=lambda number: spans[number])
    clear = all(spans[first][-1] < spans[second][0] for first, second in pairwise(order))
    return order, clear and len(order) > 1


def _add_feed_forward(draft: _Draft, one: FeedForward, layer: int) -> None:
    skeleton = draft.skeleton
    read, write = [Space.FFN, Space.RESIDUAL], [Space.RESIDUAL, Space.FFN]
    shape = (skeleton.ffn, skeleton.width)
    if skeleton.in_axis:
        read, write, shape = write, read, shape[::-1]
    for kind, name in (("ffn.gate", one.gate), ("ffn.up", one.up)):
        if name:
            draft.add(Role(kind, layer=layer), name, read, shape)
    draft.add(Role("ffn.down", layer=layer), one.down, write, shape[::-1])


def _add_heads(draft: _Draft, attention: Attention, place: int, layer: int) -> None:
    heads, skeleton = attention.heads.get(place), draft.skeleton
    if heads is None:
        return
    width = skeleton.width
    if heads.gain:
        draft.add(Role("norm.attn", layer=layer), heads.gain, [Space.RESIDUAL], (width,))
    if heads.query:
        draft.add(Role("attn.q", layer=layer), heads.query, [Space.QUERY, Space.RESIDUAL], (skeleton.query, width))
        draft.add(Role("attn.k", layer=layer), heads.key, [Space.KV, Space.RESIDUAL], (skeleton.kv, width))
    if skeleton.fused < 0:
        draft.add(Role("attn.v", layer=layer), heads.value, [Space.KV, Space.RESIDUAL], (skeleton.kv, width))
        draft.add(Role("attn.o", layer=layer), heads.output, [Space.RESIDUAL, Space.QUERY], (width, skeleton.query))
        return
    axis = skeleton.fused
    for number, (kind, space) in enumerate((("attn.q", Space.QUERY), ("attn.k", Space.KV), ("attn.v", Space.KV))):
        axes = [space, Space.RESIDUAL] if axis == 0 else [Space.RESIDUAL, space]
        cut = (axis, number * width, (number + 1) * width)
        draft.add(Role(kind, layer=layer), heads.value, axes, (width, width), cut=cut)
    axes = [Space.RESIDUAL, Space.QUERY] if axis == 0 else [Space.QUERY, Space.RESIDUAL]
    draft.add(Role("attn.o", layer=layer), heads.output, axes, (width, width))


def _add_final_norm(draft: _Draft, gains: Mapping[str, Array], layers: int) -> None:
    """The one gain that is left where all norms before the blocks are known."""
    placed = {view.tensor for role, view in draft.views.items() if role.kind in ("norm.attn", "norm.ffn")}
    left = [name for name in gains if name not in placed]
    if len(placed) == 2 * layers and len(left) == 1:
        draft.add(Role("norm.final"), left[0], [Space.RESIDUAL], (draft.skeleton.width,))


def _add_tables(draft: _Draft, blocks: Blocks) -> None:
    """Embedding and unembedding: the tallest tables.

    The rows of an unembedding lean to one side, because every token that is right pushes all others away.
    """
    rows = {name: blocks.rows(name, _TABLE_ROWS) for name in draft.skeleton.tables}
    heights = {name: blocks.height(name) for name in rows}
    alone = Counter(heights.values())
    # a table of positions stands beside one of tokens and has a height of its own: small vocabularies in order are smooth too
    smooth = {name for name, table in rows.items() if len(rows) > 1 and alone[heights[name]] == 1 and _is_smooth(table)}
    words = {name: table for name, table in rows.items() if heights[name] > 2 and name not in smooth}
    tallest = max((heights[name] for name in words), default=0)
    vocabulary = sorted((name for name in words if heights[name] == tallest), key=lambda name: _leaning(words[name]))
    shape, axes = (tallest, draft.skeleton.width), [Space.VOCAB, Space.RESIDUAL]
    if len(vocabulary) == 1:
        draft.add(Role("embed.token"), vocabulary[0], axes, shape)
    elif len(vocabulary) == 2 and _leaning(words[vocabulary[1]]) >= _LEANING * _leaning(words[vocabulary[0]]):
        draft.add(Role("embed.token"), vocabulary[0], axes, shape)
        draft.add(Role("unembed"), vocabulary[1], axes, shape)
    if len(smooth) == 1 and words:
        (positions,) = smooth
        shape = (heights[positions], draft.skeleton.width)
        draft.add(Role("embed.position"), positions, [Space.POSITION, Space.RESIDUAL], shape)


def _leaning(table: Array) -> float:
    """Squared length of the sum of all rows over the sum of their squared lengths: about 1 where they point everywhere."""
    total = float(np.square(table, dtype=np.float64).sum())
    return float(np.square(table.sum(axis=0, dtype=np.float64)).sum()) / total if total else 0.0


def _is_smooth(table: Array) -> bool:
    """Whether neighbouring rows are more alike than rows far apart: positions are, tokens are not."""
    near, far = (_median_cosine(table, lag) for lag in (1, max(len(table) // 2, 1)))
    return near - far >= _SMOOTH


def _median_cosine(table: Array, lag: int) -> float:
    """Of rows ``lag`` apart, centred; 0 without two such rows."""
    rows = unit_rows(table - table.mean(axis=0))
    cosines = np.einsum("ij,ij->i", rows[lag:], rows[:-lag])
    return float(np.median(cosines)) if len(cosines) else 0.0


def _vocabulary(draft: _Draft) -> int:
    view = draft.views.get(Role("embed.token"))
    return view.shape[0] if view else 0


def _notes(
    skeleton: Skeleton, found: Found, draft: _Draft, attention: Attention, placed: int, tensors: int, clear: bool
) -> list[str]:
    confidence = f"what belongs together is kin by {found.least_kin:.0f} or more beyond any rival (strangers: about 2)"
    if skeleton.gated:
        confidence += f", and every gate is told from its up by {found.least_lead:.1f} standard deviations or more"
    said = f"the roles of {placed} of {tensors} tensors were inferred from shapes and values"
    notes = [f"no family that homolog knows has such names: {said}; {confidence}"]
    if len(found.forwards) < skeleton.layers:
        notes.append(
            f"{len(found.forwards)} of {skeleton.layers} FFNs could be put together; layers are numbered without the others"
        )
    notes.append(
        "layers are numbered in the order in which the file holds them"
        if clear
        else "the order of the layers is not known: their numbers are mere names"
    )
    if attention.reason:
        notes.append(attention.reason)
    return notes
