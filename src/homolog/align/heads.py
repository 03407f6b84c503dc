"""The attention of one layer in canonical form: what each head reads and writes, and the forms that no change of basis inside it alters.

What a head does to the residual stream is the bilinear form ``W_Oᵀ W_V`` (OV: what is written where something is read); how it
chooses between positions that lie side by side is the form ``W_Qᵀ W_K`` (QK: what a query asks against what a key has). Values mixed
by any invertible matrix that the output matrix undoes leave the first alone; queries and keys scaled against each other, or turned
inside the pairs of dimensions that rotary positions turn, leave the second alone. Both have at most as many directions as a head has
dimensions, and are kept as factors, never as matrices of width × width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.read import count_units, read_gain, read_units
from homolog.roles.role import Anatomy, Role, Space, View

__all__ = ["Attention", "Forms", "NoAttention", "list_attention", "read_attention"]

_LARGEST = 2**28
"""Numbers of one layer's heads, latents multiplied out, up to which they are held: 1 GB."""

_HIGHEST, _LOWEST = 1e6, 1e-9
"""Between these the largest number of every part has to be: forms are products of four."""

_HEADS = (Space.QUERY, Space.KV, Space.KEY)
_LATENTS = {Space.Q_LATENT: ("attn.q_a", "norm.q_a"), Space.KV_LATENT: ("attn.kv_a", "norm.kv_a")}
"""For each latent what writes it and what norms it."""


@dataclass(frozen=True, slots=True)
class NoAttention:
    """Why the heads of a layer cannot be read, in words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forms:
    """Bilinear forms of rank r as singular triples: form i is ``Σ size[i, j] right[i, j] left[i, j]ᵀ``, by descending size."""

    left: Array
    """(n, r, d): orthonormal rows; what an OV form reads, what the queries of a QK form read."""
    size: Array
    """(n, r)."""
    right: Array
    """(n, r, d): orthonormal rows; what an OV form writes, what the keys of a QK form read."""


@dataclass(frozen=True, slots=True)
class Attention:
    """The heads of one layer, every row a vector of the residual stream, the gains of the norms around them folded in."""

    layer: int
    query: Array
    """(heads, k, d): k dimensions in which queries and keys meet."""
    key: Array
    """(groups, k, d)."""
    value: Array
    """(groups, v, d)."""
    output: Array
    """(heads, v, d): what is written for each value dimension."""

    @property
    def heads(self) -> int:
        """Query heads."""
        return len(self.query)

    @property
    def groups(self) -> int:
        """Key-value heads."""
        return len(self.key)

    @property
    def per_group(self) -> int:
        """Query heads that share one key-value head: head h reads group ``h // per_group``."""
        return len(self.query) // len(self.key)

    def read_ov(self) -> Forms:
        """The form ``W_Oᵀ W_V`` of every query head."""
        return _decompose(self.value, self.output, self.per_group)

    def read_qk(self) -> Forms:
        """The form ``W_Kᵀ W_Q`` of every query head, for a key at the position of the query."""
        turned = _decompose(self.key, self.query, self.per_group)
        return Forms(turned.right, turned.size, turned.left)

    def turn(self, basis: Array) -> Attention:
        """The same heads in the frame that ``basis`` (d, t) leads to."""
        return Attention(self.layer, self.query @ basis, self.key @ basis, self.value @ basis, self.output @ basis)


def list_attention(anatomy: Anatomy) -> list[int]:
    """The layers that have queries of their own, ascending."""
    return sorted({role.layer for role in anatomy.views if role.kind == "attn.q" and role.part == "weight"})


def read_attention(checkpoint: Checkpoint, anatomy: Anatomy, layer: int) -> Attention | NoAttention:
    """The heads of one layer, or why they cannot be read. Biases are left out.

    Latents are multiplied out, so that their basis does not matter; the key part that all heads of latent attention share stands behind
    the part of each head's own. Raises CheckpointError where the file cannot be read.
    """
    return _Reader(checkpoint, anatomy, layer).read()


class _Reader:
    """One layer of one model."""

    def __init__(self, checkpoint: Checkpoint, anatomy: Anatomy, layer: int) -> None:
        self._checkpoint, self._anatomy, self._layer = checkpoint, anatomy, layer

    def read(self) -> Attention | NoAttention:
        dims = self._anatomy.dims
        views = {kind: self._view(f"attn.{kind}") for kind in "qkvo"}
        if missing := self._missing(views):
            return NoAttention(missing)
        heads, groups, value_dim = dims.heads, dims.kv_heads, dims.head_dim
        rows = {kind: _count(view) for kind, view in views.items() if view is not None}
        rotary = self._view("attn.k_rotary")
        key_rows = rows["k"] + (0 if rotary is None else groups * count_units(rotary, Space.ROTARY))
        query_dim = rows["q"] // heads
        if (
            (query_dim * heads, value_dim * heads) != (rows["q"], rows["o"])
            or (query_dim * groups, value_dim * groups) != (key_rows, rows["v"])
            or heads % groups
        ):
            return NoAttention(
                f"its queries, keys, values and outputs have {rows['q']}, {key_rows}, {rows['v']} and {rows['o']} dimensions, which "
                f"{heads} heads with {groups} keys and values of {value_dim} do not make up"
            )
        if 2 * heads * (query_dim + value_dim) * dims.width > _LARGEST:
            return NoAttention(f"its {heads} heads are too large to be held")
        gain = self._gain("norm.attn") if self._anatomy.traits.pre_norm else None
        query, key, value = (self._read(views[kind], gain) for kind in "qkv")
        key = key.reshape(groups, -1, dims.width)
        if rotary is not None:
            shared = self._fold(read_units(self._checkpoint, rotary, Space.ROTARY), gain)
            key = np.concatenate([key, np.broadcast_to(shared, (groups, *shared.shape))], axis=1)
        query = self._normed("norm.q", query.reshape(heads, query_dim, -1))
        attention = Attention(
            self._layer,
            query,
            self._normed("norm.k", key),
            value.reshape(groups, value_dim, -1),
            self._read_output(views["o"]).reshape(heads, value_dim, -1),
        )
        parts = (attention.query, attention.key, attention.value, attention.output)
        largest = [float(np.abs(part).max(initial=0.0)) for part in parts]
        if not all(size <= _HIGHEST for size in largest):
            return NoAttention("it holds numbers that are not finite, or so large that their products are not")
        if not all(size >= _LOWEST for size in largest):
            return NoAttention("its heads read or write nothing")
        return attention

    def _missing(self, views: dict[str, View | None]) -> str | None:
        dims = self._anatomy.dims
        if any(view is None for view in views.values()):
            return "it has no queries, keys, values and outputs that are known"
        if not (dims.heads and dims.kv_heads and dims.head_dim):
            return "how many heads it has is not stated, or differs from layer to layer"
        for view in views.values():
            assert view is not None
            spaces = set(view.axes) - set(_HEADS)
            if len(view.axes) != 2 or len(spaces) != 1 or not spaces <= {Space.RESIDUAL, *_LATENTS}:
                return "its heads do not read and write the residual stream"
            latent = _LATENTS.get(next(iter(spaces)))
            if latent is not None and self._view(latent[0]) is None:
                return "what its latents are made of is not known"
        return None

    def _read(self, view: View | None, gain: Array | None) -> Array:
        """Head dimensions as rows over the residual stream, through a latent where they read one."""
        assert view is not None
        rows = read_units(self._checkpoint, view, _heads_of(view))
        latent = next((space for space in view.axes if space in _LATENTS), None)
        if latent is None:
            return self._fold(rows, gain)
        writer, norm = _LATENTS[latent]
        source = self._view(writer)
        assert source is not None
        inner = self._gain(norm)
        rows = rows if inner is None else rows * inner
        return np.asarray(rows @ self._fold(read_units(self._checkpoint, source, latent), gain), dtype=np.float32)

    def _fold(self, rows: Array, gain: Array | None) -> Array:
        """Rows that read the stream: times the gain of the norm before them, and without the mean that a LayerNorm takes away."""
        rows = rows if gain is None else rows * gain
        return rows - rows.mean(axis=1, keepdims=True) if self._centred else rows

    def _read_output(self, view: View | None) -> Array:
        assert view is not None
        rows = read_units(self._checkpoint, view, _heads_of(view))
        inner = self._gain("norm.attn_inner")
        if inner is not None and len(inner) == len(rows):
            rows = rows * inner[:, None]
        if self._anatomy.traits.pre_norm:
            after = self._gain("norm.attn_post")
        else:
            # An RMSNorm behind the block scales what it writes; the LayerNorm of an encoder comes after the sum and scales the stream.
            after = self._gain("norm.attn") if self._anatomy.traits.norm == "rms" else None
        rows = rows if after is None else rows * after
        return rows - rows.mean(axis=1, keepdims=True) if self._centred else rows

    def _normed(self, kind: str, rows: Array) -> Array:
        """Query or key rows (n, k, d) times the gain of their own norm, whether it has one for all heads or one for each."""
        gain = self._gain(kind)
        if gain is None:
            return rows
        if len(gain) == rows.shape[0] * rows.shape[1]:
            return rows * gain.reshape(*rows.shape[:2], 1)
        return rows * gain[:, None] if len(gain) == rows.shape[1] else rows

    @property
    def _centred(self) -> bool:
        return self._anatomy.traits.pre_norm and self._anatomy.traits.norm == "layer"

    def _view(self, kind: str) -> View | None:
        return self._anatomy.views.get(Role(kind, layer=self._layer))

    def _gain(self, kind: str) -> Array | None:
        """What a norm multiplies by; ``None`` for one without numbers."""
        return read_gain(self._checkpoint, self._anatomy, kind, self._layer)


def _heads_of(view: View) -> Space:
    return next(space for space in view.axes if space in _HEADS)


def _count(view: View) -> int:
    return count_units(view, _heads_of(view))


def _decompose(read: Array, write: Array, per_group: int) -> Forms:
    """Singular triples of ``writeᵀ read`` head by head, from the QR factors of both; ``read`` (groups, r, d), ``write`` (heads, r, d)."""
    q_read, r_read = np.linalg.qr(np.swapaxes(read, 1, 2))
    q_read, r_read = (np.repeat(part, per_group, axis=0) for part in (q_read, r_read))
    q_write, r_write = np.linalg.qr(np.swapaxes(write, 1, 2))
    left, size, right = np.linalg.svd(r_write @ np.swapaxes(r_read, 1, 2))
    return Forms(
        np.asarray(right @ np.swapaxes(q_read, 1, 2), dtype=np.float32),
        np.asarray(size, dtype=np.float32),
        np.asarray(np.swapaxes(left, 1, 2) @ np.swapaxes(q_write, 1, 2), dtype=np.float32),
    )
