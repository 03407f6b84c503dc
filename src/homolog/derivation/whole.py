"""Both models as wholes, brought together: which layer, FFN, unit and channel of A stands behind each of B, read tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array, Checkpoint
from homolog.derivation.blocks import Place, WholeBlock, list_places, read_block
from homolog.derivation.heads import LayerHeads, look_up_heads
from homolog.derivation.stream import Stream
from homolog.derivation.units import BlockOrigin, look_up, turn_parts
from homolog.roles.read import read_units, read_vector
from homolog.roles.role import Anatomy, Role, Space, View

__all__ = ["TensorPair", "Wholes", "join_wholes", "read_view", "stored_type"]

Indices = npt.NDArray[np.intp]
Turned = tuple[WholeBlock, list[Array]]

_MOSTLY = 0.5
"""Share of an FFN's carried units that have to come from one FFN for its tensors to be set beside that one's."""


@dataclass(frozen=True, slots=True)
class TensorPair:
    """One tensor of B beside the one of A that it came from, numbers at equal places being counterparts.

    Where value dimensions of a head were mixed, A's values and outputs are mixed likewise, by the matrix that fits B's values best.
    """

    role: Role
    """In B."""
    source: Role | None
    """In A; ``None`` for a tensor that came from none."""
    a: Array
    b: Array
    covered: float
    """Share of B's tensor that has a counterpart; the rest is left out of both arrays."""
    numbers: int
    """Of B's tensor."""
    dtypes: tuple[str, str] = ("", "")
    """As stored, of A and B; empty for numbers that are decoded from few bits."""
    fitted: bool = False
    """Whether A's numbers were mixed like that: then they are not those of its file."""


@dataclass(frozen=True, slots=True)
class Wholes:
    """What is known of how B's parts follow from A's."""

    models: tuple[Checkpoint, Checkpoint]
    anatomies: tuple[Anatomy, Anatomy]
    stream: Stream
    layers: Mapping[int, int | None]
    """Layer of B → layer of A."""
    origins: Mapping[Place, BlockOrigin]
    """FFN of B → where its units came from."""
    rows: tuple[Indices, Indices] | None = None
    """Rows of A's and of B's token tables that stand for the same tokens; ``None`` where tokens were not joined."""
    heads: Mapping[int, LayerHeads] = field(default_factory=dict)
    """Layer of B → where its attention heads came from."""

    def pairs(self) -> Iterator[TensorPair]:
        """Every tensor of B with a role, one after the other. Raises CheckpointError where a file cannot be read."""
        for role in sorted(self.anatomies[1].views):
            view = self.anatomies[1].views[role]
            source = self.source_of(role)
            known = None if source is None else self.anatomies[0].views.get(source)
            pair = None if known is None or source is None else self._align(role, source, view, known)
            size = int(np.prod(view.shape))
            yield pair or TensorPair(role, None, _NONE, _NONE, 0.0, size)

    def source_of(self, role: Role) -> Role | None:
        """The role in A whose tensor stands behind B's."""
        layer = -1 if role.layer < 0 else self.layers.get(role.layer)
        if layer is None:
            return None
        place = self._place(role)
        if place is None:
            return replace(role, layer=layer)
        origin = self.origins.get(place)
        found = origin.shares() if origin is not None else []
        if origin is None or not found or found[0][1] < _MOSTLY * origin.carried:
            return None
        main = found[0][0]
        return replace(role, layer=main.layer, expert=main.expert, shared=main.shared)

    def _place(self, role: Role) -> Place | None:
        place = Place(role.layer, role.expert, role.shared)
        return place if role.kind in ("ffn.gate", "ffn.up", "ffn.down") else None

    def _align(self, role: Role, source: Role, view: View, known: View) -> TensorPair | None:
        if sorted(view.axes) != sorted(known.axes):
            return None
        lead = next((axis for axis in view.axes if axis is not Space.RESIDUAL), view.axes[0])
        spaces = [lead, *(axis for axis in view.axes if axis is not lead)] if len(view.axes) == 2 else list(view.axes)
        b, a = (read_view(model, v, lead) for model, v in ((self.models[1], view), (self.models[0], known)))
        size, fitted = b.size, False
        for axis, space in enumerate(spaces):
            chosen = self._counterparts(role, source, space, a.shape[axis], b.shape[axis])
            if chosen is None:
                return None
            mine, theirs, signs = chosen
            b, a = np.take(b, mine, axis=axis), np.take(a, theirs, axis=axis)
            if space in (Space.QUERY, Space.KV) and axis == 0 and (heads := self.heads.get(role.layer)) is not None:
                mixed = heads.mix_values(role.kind, a, mine)
                a, fitted = (a, False) if mixed is None else (mixed, True)
            if signs is not None and not (role.kind.startswith("norm.") and role.part == "weight"):
                a = a * (signs[:, None] if axis == 0 and a.ndim == 2 else signs)
        if not b.size:
            return None
        dtypes = tuple(stored_type(model, v) for model, v in ((self.models[0], known), (self.models[1], view)))
        return TensorPair(role, source, a, b, b.size / size, size, (dtypes[0], dtypes[1]), fitted)

    def _counterparts(
        self, role: Role, source: Role, space: Space, length_a: int, length_b: int
    ) -> tuple[Indices, Indices, Array | None] | None:
        """Indices of B and of A along one axis that are each other's, and the signs between them."""
        every = np.arange(length_b)
        if space is Space.RESIDUAL:
            channels, signs = self.stream.channels, self.stream.signs
            if channels is None or signs is None or len(channels) != length_b:
                return None
            known = np.flatnonzero((channels >= 0) & (channels < length_a))
            return known, channels[known], None if (signs > 0).all() else signs[known]
        if space is Space.FFN and (place := self._place(role)) is not None and place in self.origins:
            origin = self.origins[place]
            target = Place(source.layer, source.expert, source.shared)
            if target not in origin.sources or len(origin) != length_b:
                return None
            if origin.sizes[origin.sources.index(target)] != length_a:
                return None
            known = np.flatnonzero(origin.block == origin.sources.index(target))
            return known, origin.unit[known], None
        if role.kind.startswith(("attn.", "norm.")) and (moved := self._moved_heads(role)) is not None:
            # Where heads stand in place they are compared in place, whether each one was recognised or not.
            known_heads = moved.counterparts(space, length_a, length_b)
            if known_heads is not None:
                return *known_heads, None
        if space is Space.VOCAB:
            if self.rows is None:
                return (every, every, None) if length_a == length_b else None
            theirs, mine = self.rows
            inside = (theirs < length_a) & (mine < length_b)
            return mine[inside], theirs[inside], None
        return (every, every, None) if length_a == length_b else None

    def _moved_heads(self, role: Role) -> LayerHeads | None:
        heads = self.heads.get(role.layer)
        return None if heads is None or heads.found is None or heads.in_place else heads


_NONE = np.empty(0, dtype=np.float32)


def join_wholes(
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    stream: Stream,
    layers: Mapping[int, int | None],
    rows: tuple[Indices, Indices] | None,
) -> Wholes:
    """Look the units of every FFN of B, and its attention heads, up in the layer of A that its own came from.

    One layer is held at a time. Raises CheckpointError where a file cannot be read.
    """
    places_a, places_b = (list_places(anatomy) for anatomy in anatomies)
    origins: dict[Place, BlockOrigin] = {}
    for source in sorted({layer for layer in layers.values() if layer is not None}):
        theirs = _turn_layer(models[0], anatomies[0], places_a, source, stream.frame.a)
        for layer in sorted(layer for layer, known in layers.items() if known == source):
            for place, (block, parts) in _turn_layer(models[1], anatomies[1], places_b, layer, stream.frame.b).items():
                origins[place] = look_up(block, parts, theirs)
    heads = look_up_heads(models, anatomies, layers, None if stream.in_place else stream.frame)
    return Wholes(models, anatomies, stream, layers, dict(sorted(origins.items())), rows, heads)


def _turn_layer(
    model: Checkpoint, anatomy: Anatomy, places: Mapping[Place, Role], layer: int, basis: Array
) -> dict[Place, Turned]:
    found: dict[Place, Turned] = {}
    for place in places:
        if place.layer == layer:
            block = read_block(model, anatomy, places[place])
            found[place] = (block, turn_parts(block, basis))
    return found


def read_view(model: Checkpoint, view: View, lead: Space) -> Array:
    """A tensor with the axis that counts ``lead`` first, or a vector. Raises CheckpointError where the file cannot be read."""
    return read_vector(model, view) if len(view.shape) == 1 else read_units(model, view, lead)


def stored_type(model: Checkpoint, view: View) -> str:
    """The type that a tensor is stored in; empty for one that is decoded from few bits."""
    info = model.tensors[view.tensor]
    return "" if info.lattice else info.dtype
