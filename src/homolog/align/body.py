"""The body of a model: the units of its FFNs in canonical form, without embeddings, for alignment through any disguise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from homolog.align.canonical import Merged, Units, find_unread, merge_equal_gates, usable_units, without_unread
from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.read import count_units, read_gain, read_units, read_units_at
from homolog.roles.role import Anatomy, Role, Space, View

__all__ = ["Block", "Body", "BodyPlan", "Norm", "read_body", "read_norm", "spread"]


_BLOCK, _DENSE = 2**23, 8
"""Numbers read at a time, and the share of units (one in eight) from which reading all of them is cheaper than picking some."""

_WIDEST = 2048
"""Residual channels up to which directions that nothing reaches are looked for: it takes a decomposition."""

_FARTHEST = 8
"""How many times as many units as are kept are looked at, where units that cancel each other or share a gate fall away."""

_OPPOSED = 0.01
"""Share of units that have a gate with the opposite sign from which the sign of a gate means nothing. No model of the zoo has one."""


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """How much of a body is kept; what is left out is chosen by numbers that no disguise changes."""

    units: int = 512
    """Of every FFN the units of the largest effect, at most so many."""
    blocks: int = 64
    """At most so many FFNs, evenly over the depth; all experts of a layer, or as many of them as fit."""


@dataclass(frozen=True, slots=True)
class Block:
    """One FFN, or one expert."""

    layer: int
    expert: int
    """-1 for a dense FFN."""
    shared: bool
    cut: bool
    """Whether only the units of the largest effect were kept."""
    units: Units
    merged: int = 0
    """How many units went into others, or into nothing, because they had one gate."""
    opposed: int = 0
    """How many shared a gate with units of the opposite sign."""


@dataclass(frozen=True, slots=True)
class Body:
    """The FFNs of a model, in reading order. Blocks without a usable unit are left out."""

    width: int
    layers: int
    """Of the whole model."""
    gated: bool
    blocks: tuple[Block, ...]

    @property
    def units(self) -> int:
        """Units of all blocks together."""
        return sum(len(block.units) for block in self.blocks)

    @property
    def signless(self) -> bool:
        """Whether gates stand beside their opposites, as no training leaves them: then the sign of a gate means nothing."""
        return sum(block.opposed for block in self.blocks) > _OPPOSED * max(self.units, 1)


def read_body(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: BodyPlan | None = None,
    shuffle: Callable[[str], np.random.Generator] | None = None,
    tokens: Array | None = None,
) -> Body:
    """Read the FFNs of a resolved checkpoint, FFN by FFN, with norm gains folded, split units merged and units that cancel left out.

    With ``shuffle``, a generator for each FFN by name, units are put in random order first: whatever is computed from the body then
    cannot depend on their indices, not even in its rounding. Exact tests in the frame of a body need that. ``tokens`` (t, width) are
    embedding rows of ordinary tokens: they tell the directions that nothing reaches, where there are any. Raises CheckpointError where
    the file cannot be read. A model whose FFNs have no output matrix gives a body without blocks.
    """
    plan = plan or BodyPlan()
    sources = [_Source(checkpoint, anatomy, role, shuffle) for role in _choose(anatomy, plan.blocks)]
    known = [source.read(0, plan.units) for source in sources]
    unread = _find_unread(anatomy, known, tokens)
    found = [source.collect(units, plan.units, unread) for source, units in zip(sources, known, strict=True)]
    gated = bool(known) and all(units.up is not None for units in known)
    blocks = [
        Block(role.layer, role.expert, role.shared, source.total > plan.units, one.units, one.merged, one.opposed)
        for source, one in zip(sources, found, strict=True)
        for role in [source.role]
        if len(one.units) >= 2
    ]
    return Body(anatomy.dims.width, anatomy.dims.layers, gated and bool(blocks), tuple(blocks))


def _choose(anatomy: Anatomy, most: int) -> list[Role]:
    """The up matrices of the FFNs to read: all, or those of layers spread evenly over the depth."""
    roles = [
        role
        for role in sorted(anatomy.views)
        if role.kind == "ffn.up" and role.part == "weight" and _of(anatomy, role, "ffn.down") is not None
    ]
    layers = sorted({role.layer for role in roles})
    if len(roles) <= most or not layers:
        return roles
    experts = max(1, most // len(layers))
    kept = set(spread(layers, most))
    per_layer: dict[int, list[Role]] = {}
    for role in roles:
        if role.layer in kept:
            per_layer.setdefault(role.layer, []).append(role)
    # Shared experts first: they are few, and every token passes through them.
    return [role for found in per_layer.values() for role in sorted(found, key=lambda r: not r.shared)[:experts]]


def spread(layers: Sequence[int], most: int) -> list[int]:
    """At most so many of ``layers``, evenly from the first to the last."""
    places = np.linspace(0, len(layers) - 1, min(len(layers), most)).round().astype(int)
    return [layers[place] for place in places]


def _of(anatomy: Anatomy, role: Role, kind: str, part: str = "weight") -> View | None:
    return anatomy.views.get(replace(role, kind=kind, part=part))


class _Source:
    """The units of one FFN, read as they are asked for: all, or those of the largest effect first."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        anatomy: Anatomy,
        role: Role,
        shuffle: Callable[[str], np.random.Generator] | None,
    ) -> None:
        self.role, self._checkpoint, self._width = role, checkpoint, anatomy.dims.width
        gate, down = _of(anatomy, role, "ffn.gate"), _of(anatomy, role, "ffn.down")
        assert down is not None
        self._reads = [view for view in (gate, anatomy.views[role]) if view is not None]
        self._down = down
        self._norm = read_norm(checkpoint, anatomy, role.layer)
        self._rng = None if shuffle is None else shuffle(str(role))
        self.total = count_units(anatomy.views[role], Space.FFN)
        self._unread: Array | None = None
        self._order: npt.NDArray[np.intp] | None = None

    def read(self, start: int, stop: int) -> Units:
        """Usable units by rank of effect, those of ``start:stop``; the whole FFN, if it has no more than that."""
        chosen = None
        if stop < self.total or start > 0:
            if self._order is None:
                self._order = self._rank()
            chosen = np.sort(self._order[start:stop])
        reads = [_rows(self._checkpoint, view, chosen) for view in self._reads]
        units = usable_units(self._norm.fold(reads, _rows(self._checkpoint, self._down, chosen)))
        return units if self._rng is None else units.take(self._rng.permutation(len(units)))

    def collect(self, known: Units, most: int, unread: Array | None) -> Merged:
        """The units that are kept: ``known``, or more of them where some have one gate or read only what nothing reaches."""
        cut = self.total > most
        if unread is not None and cut:
            self._unread, self._order = unread, None
            known = self.read(0, most)
        merged = merge_equal_gates(without_unread(known, unread))
        taken = most
        while cut and len(merged.units) < most and taken < min(self.total, _FARTHEST * most):
            known = _joined(known, self.read(taken, taken + most))
            merged = merge_equal_gates(without_unread(known, unread))
            taken += most
        if len(merged.units) > most:
            return Merged(merged.units.take(merged.units.strongest(most)), merged.merged, merged.opposed)
        return merged

    def _rank(self) -> npt.NDArray[np.intp]:
        """Units by descending effect; of equal ones which is first is drawn by lot."""
        gain, centred = self._norm.gain, self._norm.centred
        level = [np.full((self._width, 1), self._width**-0.5, dtype=np.float32)] if centred else []
        read = [*level, self._unread] if self._unread is not None else level
        basis = np.linalg.qr(np.concatenate(read, axis=1))[0] if read else None
        sizes = [_squares(self._checkpoint, view, gain, basis) for view in self._reads]
        sizes.append(_squares(self._checkpoint, self._down, None, level[0] if level else None))
        effects = np.log(np.maximum(np.nan_to_num(np.stack(sizes), posinf=0.0), 1e-30)).sum(axis=0)
        lot = np.arange(self.total) if self._rng is None else self._rng.permutation(self.total)
        return np.asarray(lot[np.argsort(-effects[lot], kind="stable")], dtype=np.intp)


def _joined(first: Units, second: Units) -> Units:
    gate, *up, down = (np.concatenate(parts) for parts in zip(first.parts, second.parts, strict=True))
    return Units(gate, up[0] if up else None, down)


def _squares(checkpoint: Checkpoint, view: View, gain: Array | None, basis: Array | None) -> npt.NDArray[np.float64]:
    """Squared lengths (units,) of the units' vectors times ``gain``, without what lies along ``basis`` (width, k)."""
    total, width = count_units(view, Space.FFN), count_units(view, Space.RESIDUAL)
    as_rows = view.axes[0] == Space.FFN
    step = max(1, _BLOCK // (width if as_rows else total))
    sizes = np.zeros(total)
    along = np.zeros((total, 0 if basis is None else basis.shape[1]), dtype=np.float32)
    for start in range(0, total if as_rows else width, step):
        if as_rows:
            here = slice(start, min(start + step, total))
            rows = read_units(checkpoint, view, Space.FFN, here.start, here.stop)
            rows = rows if gain is None else rows * gain
            sizes[here] = np.einsum("ij,ij->i", rows, rows)
            along[here] = 0 if basis is None else rows @ basis
        else:
            here = slice(start, min(start + step, width))
            rows = read_units(checkpoint, view, Space.RESIDUAL, here.start, here.stop)
            rows = rows if gain is None else rows * gain[here, None]
            sizes += np.einsum("ij,ij->j", rows, rows)
            along += 0 if basis is None else rows.T @ basis[here]
    return np.asarray(sizes - np.einsum("ij,ij->i", along, along, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Norm:
    """What the norm before an FFN does to what its units read and write."""

    gain: Array | None = None
    centred: bool = False
    """LayerNorm takes the mean over channels away, so nothing along it is read, and nothing written along it counts."""

    def fold(self, reads: Sequence[Array], writes: Array) -> Units:
        """Units as they act on the stream: ``reads`` are gates and ups, or what plain units read, (n, d) each."""
        if self.gain is not None:
            reads = [rows * self.gain for rows in reads]
        if self.centred:
            reads = [rows - rows.mean(axis=1, keepdims=True) for rows in reads]
            writes = writes - writes.mean(axis=1, keepdims=True)
        return Units(reads[0], reads[1] if len(reads) == 2 else None, writes)


def read_norm(checkpoint: Checkpoint, anatomy: Anatomy, layer: int) -> Norm:
    """Of the norm before the FFN of ``layer``. Raises CheckpointError where the file cannot be read."""
    if not anatomy.traits.pre_norm:
        return Norm()
    return Norm(read_gain(checkpoint, anatomy, "norm.ffn", layer), anatomy.traits.norm == "layer")


def _rows(checkpoint: Checkpoint, view: View, chosen: npt.NDArray[np.intp] | None) -> Array:
    """The units ``chosen``; where they are many of few, all are read in one go."""
    if chosen is None:
        return read_units(checkpoint, view, Space.FFN)
    total = count_units(view, Space.FFN)
    dense = len(chosen) * _DENSE >= total and total * view.shape[1] <= _BLOCK
    if view.axes[0] == Space.FFN and dense:
        return read_units(checkpoint, view, Space.FFN)[chosen]
    return read_units_at(checkpoint, view, Space.FFN, chosen.tolist())


def _find_unread(anatomy: Anatomy, blocks: list[Units], tokens: Array | None) -> Array | None:
    """Directions that nothing reaches, where there are any and they can be told."""
    width = anatomy.dims.width
    if width > _WIDEST or sum(map(len, blocks)) < 2 * width:
        return None
    if tokens is not None and anatomy.traits.pre_norm and anatomy.traits.norm == "layer":
        tokens = tokens - tokens.mean(axis=1, keepdims=True)
    usable = tokens is not None and tokens.shape[1:] == (width,)
    basis = find_unread(tokens if usable else None, blocks, width)
    return basis if basis.size else None
