"""The body of a model: the units of its FFNs in canonical form, without embeddings, for alignment through any disguise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from homolog.align.canonical import Units, find_unwritten, merge_equal_gates, usable_units
from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.read import count_units, read_units, read_units_at, read_vector
from homolog.roles.role import Anatomy, Role, Space, View

__all__ = ["Block", "Body", "BodyPlan", "read_body"]


_BLOCK, _DENSE = 2**23, 8
"""Numbers read at a time, and the share of units (one in eight) from which reading all of them is cheaper than picking some."""

_WIDEST = 1024
"""Residual channels up to which directions that nothing writes to are looked for: it takes a decomposition."""


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """How much of a body is kept; what is left out is chosen by numbers that no disguise changes."""

    units: int = 512
    """Of every FFN the units with the longest gates, at most so many."""
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
    """Whether only the units with the longest gates were kept."""
    units: Units
    merged: int = 0
    """How many units went into others because they had one gate."""


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


def read_body(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: BodyPlan | None = None,
    shuffle: Callable[[str], np.random.Generator] | None = None,
) -> Body:
    """Read the FFNs of a resolved checkpoint, FFN by FFN, with norm gains folded and split units merged.

    With ``shuffle``, a generator for each FFN by name, units are put in random order first: whatever is computed from the body then
    cannot depend on their indices, not even in its rounding. Exact tests in the frame of a body need that. Raises CheckpointError where
    the file cannot be read. A model whose FFNs have no output matrix gives a body without blocks.
    """
    plan = plan or BodyPlan()
    found = []
    for role in _choose(anatomy, plan.blocks):
        units = _read(checkpoint, anatomy, role, plan.units)
        if shuffle is not None:
            units = units.take(shuffle(str(role)).permutation(len(units)))
        if len(units) >= 2:
            found.append((role, units))
    blocks = []
    for role, units in _without_unwritten(found):
        merged = merge_equal_gates(units)
        cut = _total(anatomy, role) > plan.units
        blocks.append(Block(role.layer, role.expert, role.shared, cut, merged, len(units) - len(merged)))
    gated = bool(blocks) and all(block.units.up is not None for block in blocks)
    return Body(anatomy.dims.width, anatomy.dims.layers, gated, tuple(blocks))


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
    kept = {layers[i] for i in np.linspace(0, len(layers) - 1, min(len(layers), most)).round().astype(int)}
    per_layer: dict[int, list[Role]] = {}
    for role in roles:
        if role.layer in kept:
            per_layer.setdefault(role.layer, []).append(role)
    # Shared experts first: they are few, and every token passes through them.
    return [role for found in per_layer.values() for role in sorted(found, key=lambda r: not r.shared)[:experts]]


def _of(anatomy: Anatomy, role: Role, kind: str, part: str = "weight") -> View | None:
    return anatomy.views.get(replace(role, kind=kind, part=part))


def _read(checkpoint: Checkpoint, anatomy: Anatomy, role: Role, most: int) -> Units:
    up, gate, down = anatomy.views[role], _of(anatomy, role, "ffn.gate"), _of(anatomy, role, "ffn.down")
    assert down is not None
    first = gate or up
    chosen = _longest(checkpoint, first, most)
    norm = _read_norm(checkpoint, anatomy, role.layer)
    reads = [_rows(checkpoint, view, chosen) for view in ((gate, up) if gate is not None else (up,))]
    if norm.gain is not None:
        reads = [rows * norm.gain for rows in reads]
    writes = _rows(checkpoint, down, chosen)
    if norm.centred:
        reads = [rows - rows.mean(axis=1, keepdims=True) for rows in reads]
        writes = writes - writes.mean(axis=1, keepdims=True)
    return usable_units(Units(reads[0], reads[1] if len(reads) == 2 else None, writes))


@dataclass(frozen=True, slots=True)
class _Norm:
    gain: Array | None = None
    centred: bool = False
    """LayerNorm takes the mean over channels away, so nothing along it is read, and nothing written along it counts."""


def _read_norm(checkpoint: Checkpoint, anatomy: Anatomy, layer: int) -> _Norm:
    if not anatomy.traits.pre_norm:
        return _Norm()
    gain = anatomy.views.get(Role("norm.ffn", layer=layer))
    return _Norm(None if gain is None else read_vector(checkpoint, gain), anatomy.traits.norm == "layer")


def _total(anatomy: Anatomy, role: Role) -> int:
    return count_units(anatomy.views[role], Space.FFN)


def _longest(checkpoint: Checkpoint, view: View, most: int) -> npt.NDArray[np.intp] | None:
    """The units with the longest rows, ascending; ``None`` for all."""
    total = count_units(view, Space.FFN)
    if total <= most:
        return None
    step = max(1, _BLOCK // max(view.shape[1 - view.axes.index(Space.FFN)], 1))
    size = np.concatenate(
        [
            np.einsum("ij,ij->i", rows, rows)
            for start in range(0, total, step)
            for rows in [read_units(checkpoint, view, Space.FFN, start, min(start + step, total))]
        ]
    )
    return np.sort(np.argsort(-np.nan_to_num(size), kind="stable")[:most])


def _rows(checkpoint: Checkpoint, view: View, chosen: npt.NDArray[np.intp] | None) -> Array:
    """The units ``chosen``; where they are many of few, all are read in one go."""
    if chosen is None:
        return read_units(checkpoint, view, Space.FFN)
    total = count_units(view, Space.FFN)
    dense = len(chosen) * _DENSE >= total and total * view.shape[1] <= _BLOCK
    if view.axes[0] == Space.FFN and dense:
        return read_units(checkpoint, view, Space.FFN)[chosen]
    return read_units_at(checkpoint, view, Space.FFN, chosen.tolist())


def _without_unwritten(found: list[tuple[Role, Units]]) -> list[tuple[Role, Units]]:
    """Reading rows without the directions that no FFN ever writes to, where there are any and they can be told."""
    if not found:
        return found
    width = found[0][1].down.shape[1]
    if width > _WIDEST or sum(len(units) for _, units in found) < 2 * width:
        return found
    gram = np.zeros((width, width))
    for _, units in found:
        gram += units.down.T @ units.down
    basis = find_unwritten(gram)
    if not basis.size:
        return found

    def without(rows: Array) -> Array:
        return np.asarray(rows - (rows @ basis) @ basis.T, dtype=np.float32)

    return [
        (role, Units(without(units.gate), None if units.up is None else without(units.up), units.down))
        for role, units in found
    ]
