"""The attention heads of B, layer by layer: which head of A each one is, and whether values were mixed inside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.align.head_map import HeadMap, match_heads
from homolog.align.heads import NoAttention, list_attention, read_attention
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.role import Anatomy, Space

__all__ = ["LayerHeads", "look_up_heads"]

Indices = npt.NDArray[np.intp]

_IN_ORDER = 0.9
"""Share of steps from one head to the next that go up, above which heads stand in order."""

_BY_HEAD, _BY_GROUP = (Space.QUERY, Space.HEAD), (Space.KV, Space.KEY)


@dataclass(frozen=True, slots=True)
class LayerHeads:
    """The heads of one layer of B, or why they were not looked up."""

    layer: int
    b: int = 0
    """Query heads."""
    source: int | None = None
    """The layer of A among whose heads they were looked up; ``None`` if it is not known which."""
    found: HeadMap | None = None
    absent: str | None = None

    @property
    def a(self) -> int:
        """Query heads of A's layer; 0 if none is known."""
        return 0 if self.found is None else self.found.sizes[0]

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For every head of B the head of A that it is."""
        return (None,) * self.b if self.found is None else _named(self.found.head)

    @property
    def carried(self) -> int:
        """Heads of B that are recognised as heads of A."""
        return sum(head is not None for head in self.sources)

    @property
    def copied(self) -> int:
        """Carried heads whose source another head of the layer is already."""
        known = [head for head in self.sources if head is not None]
        return len(known) - len(set(known))

    @property
    def missing(self) -> int:
        """Heads of A's layer that are recognised in none of B's."""
        return self.a - len({head for head in self.sources if head is not None})

    @property
    def order(self) -> str:
        """``kept`` where heads stand in the order of those that they are, ``permuted``; ``none`` where fewer than two are known."""
        steps = np.diff([head for head in self.sources if head is not None])
        if not len(steps):
            return "none"
        return "kept" if float(np.mean(steps >= 0)) > _IN_ORDER else "permuted"

    @property
    def values(self) -> str:
        """What became of the value dimensions inside most key-value heads: ``kept``, ``permuted``, ``mixed``, or ``none``."""
        orders = Counter(value.order for value in (self.found.values if self.found else ()) if value is not None)
        return max(orders, key=lambda order: (orders[order], order)) if orders else "none"

    @property
    def in_place(self) -> bool:
        """Whether every head that is known stands where it stood, among as many others."""
        if self.found is None or self.found.sizes != (self.b, len(self.found.group)):
            return False
        return all(head in (None, place) for place, head in enumerate(self.sources))

    def counterparts(self, space: Space, length_a: int, length_b: int) -> tuple[Indices, Indices] | None:
        """Indices of B and of A along an axis of heads and their dimensions that are each other's; ``None`` if it is no such axis."""
        found = self.found
        if found is None or space not in (*_BY_HEAD, *_BY_GROUP):
            return None
        sources = found.head if space in _BY_HEAD else found.group
        size, rest = divmod(length_b, len(sources))
        if rest or size * found.sizes[0 if space in _BY_HEAD else 1] != length_a:
            return None
        known = np.flatnonzero(sources >= 0)
        mine, theirs = ((heads[:, None] * size + np.arange(size)).ravel() for heads in (known, sources[known]))
        return mine, theirs

    def mix_values(self, kind: str, rows: Array, mine: Indices) -> Array | None:
        """Rows (or a bias) of A's values or outputs with the mixing that B's values show, where B's dimensions ``mine`` are mixed.

        ``None`` where most heads are not. Mixing is fitted to the values alone; of the outputs it is undone.
        """
        if self.found is None or self.values != "mixed" or kind not in ("attn.v", "attn.o"):
            return None
        per_group = self.b // len(self.found.group) if kind == "attn.o" else 1
        mixed = rows.copy()
        for group, value in enumerate(self.found.values):
            if value is None or value.order == "none" or value.mixing.shape[0] != value.mixing.shape[1]:
                continue
            size = len(value.mixing)
            change = value.mixing if kind == "attn.v" else np.linalg.pinv(value.mixing.astype(np.float64), 1e-4).T
            for head in range(group * per_group, (group + 1) * per_group):
                here = np.flatnonzero(mine // size == head)
                if len(here) == size:
                    mixed[here] = change @ rows[here]
        return mixed

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``layers[].heads``."""
        found = self.found
        known = [] if found is None else found.likeness[found.head >= 0].tolist()
        residuals = [value.residual for value in (found.values if found else ()) if value is not None]
        return {
            "b": self.b,
            "a": self.a,
            "carried": self.carried,
            "unrecognised": self.b - self.carried,
            "copied": self.copied,
            "missing": self.missing,
            "order": self.order,
            "sources": list(self.sources),
            "groups": [] if found is None else list(_named(found.group)),
            "groups_of_a": 0 if found is None else found.sizes[1],
            "likeness": round(float(np.median(known)), 4) if known else None,
            "values": self.values,
            "values_left": round(float(np.median(residuals)), 4) if residuals else None,
            "absent": self.absent,
        }


def look_up_heads(
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    layers: Mapping[int, int | None],
    frame: Frame | None,
) -> dict[int, LayerHeads]:
    """The heads of every layer of B looked up in the layer of A that ``layers`` names; ``frame`` joins both streams if one is needed.

    One layer of each model is held at a time. Raises CheckpointError where a file cannot be read.
    """
    found = {}
    for layer in list_attention(anatomies[1]):
        source = layers.get(layer)
        if source is None:
            if layer in layers and anatomies[1].dims.heads:
                found[layer] = LayerHeads(layer, anatomies[1].dims.heads)
            continue
        sides = [
            read_attention(model, anatomy, number)
            for model, anatomy, number in zip(models, anatomies, (source, layer), strict=True)
        ]
        a, b = sides
        if isinstance(a, NoAttention):
            found[layer] = LayerHeads(layer, source=source, absent=f"layer {source} of A: {a.reason}")
        elif isinstance(b, NoAttention):
            found[layer] = LayerHeads(layer, source=source, absent=f"layer {layer} of B: {b.reason}")
        else:
            found[layer] = LayerHeads(layer, b.heads, source, match_heads(a, b, frame))
    return found


def _named(heads: Indices) -> tuple[int | None, ...]:
    return tuple(head if head >= 0 else None for head in heads.tolist())
