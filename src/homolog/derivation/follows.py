"""Whether every number of one model follows from another's by a change that keeps what the model computes, rounded once more.

A copy that was rescaled, mixed, turned or had its norms folded has far fewer free numbers than weights: one factor a unit or value
dimension, one matrix for the values that heads share, one rotation of the stream. What they give lies within half a step of what the
copy's file holds, everywhere. The way back starts from rounded numbers, so that it misses those of the original by more than half of
their steps here and there. Siblings fail both ways: each has a rounding, or a change, of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Checkpoint
from homolog.derivation.blocks import Place, list_places
from homolog.derivation.rounding import find_step
from homolog.derivation.tensors import ulp
from homolog.derivation.whole import Wholes, read_view, stored_type
from homolog.roles.role import Anatomy, Role, Space

__all__ = ["Following", "find_following"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_LARGEST, _LARGEST_TENSOR = 2**28, 2**24
"""Numbers of a model, and of one tensor, up to which they are looked at: tensors are held whole in double precision, and a stream in
another basis takes width² products of each row."""

_HALF = 0.505
"""Steps by which a number may miss what it follows from; a hundredth of that is for what was computed in single precision."""

_FEW, _MANY = 2.0, 6.0
"""Standard errors by which numbers may miss on top, where what they follow from was estimated: to be counted, and to be anything else."""

_STRAY, _FEWEST_OVER, _FAR = 0.02, 3, 0.003
"""Shares of a tensor's numbers that may be counted so: 0.012 and 0.0012 at most in disguised copies of models of lineages a, b, k, m, q
and s, while of two copies of one model some tensor has 0.1, both ways round. None may miss by twice as much."""

_BACK, _SURE = 0.01, 10.0
"""How much more often the elder's numbers have to miss on the way back, and by how many standard errors."""

_MIXED = 0.3
"""Share of the values of a layer that factors have to leave unexplained for a matrix to be fitted: of mixed ones they leave nearly all."""

_ROWS_PER_CHANNEL = 4
_ARITHMETIC, _TINY = 1e-6, 1e-60

_NORM_OF = {"attn.q": "norm.attn", "attn.k": "norm.attn", "attn.v": "norm.attn", "attn.q_a": "norm.attn"} | {
    "attn.kv_a": "norm.attn",
    "ffn.gate": "norm.ffn",
    "ffn.up": "norm.ffn",
    "ffn.router": "norm.ffn",
    "ffn.shared_gate": "norm.ffn",
    "unembed": "norm.final",
}
"""What reads the stream, by the norm that it reads it through."""

_RESCALED = ("ffn.up", "ffn.down", "attn.v", "attn.o")
"""What may be multiplied unit by unit or mixed; rows of all else keep their lengths, so that a rotation is fitted to them."""


class _UnfitError(Exception):
    """The parts of both are not each other's, one to one."""


@dataclass(frozen=True, slots=True)
class Following:
    """That the numbers of one model follow from the other's, and not the other way round."""

    order: str
    """``a_to_b``: those of B follow from A's."""
    forward: float
    """Share of the younger's numbers that miss what the elder's give by more than half a step."""
    backward: float
    """Share of the elder's that miss what the younger's give."""
    numbers: int
    """Of the tensors that are not the same, bit for bit."""


def find_following(wholes: Wholes) -> Following | None:
    """The order in which the numbers of one follow from the other's; ``None`` where they do in both orders, in none, or it is not known.

    Every tensor of the younger has to follow, and every unit, head, channel and token of both to have one counterpart. Stops at the first
    tensor that does not. Raises CheckpointError where a file cannot be read.
    """
    for anatomy in wholes.anatomies:
        sizes = [int(np.prod(view.shape)) for view in anatomy.views.values()]
        if sum(sizes) > _LARGEST or max(sizes, default=0) > _LARGEST_TENSOR:
            return None
    try:
        forth = _Way(wholes.models, wholes.anatomies, _read_maps(wholes))
        for order, way, other in (("a_to_b", forth, forth.back()), ("b_to_a", forth.back(), forth)):
            forward = way.measure(strict=True)
            if forward is not None:
                backward = other.measure(strict=False)
                return None if backward is None else _tell(order, forward, backward)
    except _UnfitError:
        return None
    return None


def _tell(order: str, forward: tuple[int, int], backward: tuple[int, int]) -> Following | None:
    if not forward[1] or not backward[1]:
        return None
    there, back = (missed / numbers for missed, numbers in (forward, backward))
    error = np.sqrt(there * (1 - there) / forward[1] + back * (1 - back) / backward[1])
    return Following(order, there, back, backward[1]) if back - there > max(_BACK, _SURE * error) else None


@dataclass(frozen=True, slots=True)
class _Maps:
    """For every part of the target the part of the source that it is."""

    layers: Mapping[int, int]
    units: Mapping[Place, tuple[Place, Indices]]
    heads: Mapping[int, tuple[Indices, Indices]]
    channels: tuple[Indices, Floats] | None
    """With signs; ``None`` where the basis has to be fitted."""

    def invert(self) -> _Maps:
        """The same from the source's side."""
        turned = None
        if self.channels is not None:
            order = np.argsort(self.channels[0])
            turned = (order, self.channels[1][order])
        return _Maps(
            {a: b for b, a in self.layers.items()},
            {source: (place, np.argsort(units)) for place, (source, units) in self.units.items()},
            {self.layers[layer]: (np.argsort(h), np.argsort(g)) for layer, (h, g) in self.heads.items()},
            turned,
        )


def _read_maps(wholes: Wholes) -> _Maps:
    dims = [anatomy.dims for anatomy in wholes.anatomies]
    if dims[0] != dims[1] or wholes.anatomies[0].traits != wholes.anatomies[1].traits:
        raise _UnfitError
    layers = {b: a for b, a in wholes.layers.items() if a is not None}
    _check(np.array([layers.get(layer, -1) for layer in range(dims[1].layers)]), dims[0].layers)
    places = list_places(wholes.anatomies[1])
    if places.keys() != wholes.origins.keys():
        raise _UnfitError
    units = {}
    for place, origin in wholes.origins.items():
        blocks = np.unique(origin.block)
        if len(blocks) != 1 or blocks[0] < 0:
            raise _UnfitError
        _check(origin.unit, origin.sizes[blocks[0]])
        units[place] = origin.sources[blocks[0]], origin.unit
    if len({source for source, _ in units.values()}) != len(list_places(wholes.anatomies[0])):
        raise _UnfitError
    heads = {}
    for layer, found in wholes.heads.items():
        if found.found is not None:
            _check(found.found.head, found.found.sizes[0])
            _check(found.found.group, found.found.sizes[1])
            heads[layer] = found.found.head, found.found.group
    if wholes.rows is not None and not (
        len(wholes.rows[0]) and np.array_equal(*wholes.rows) and len(wholes.rows[0]) <= dims[0].vocab
    ):
        raise _UnfitError
    stream = wholes.stream
    if stream.channels is None or stream.signs is None:
        return _Maps(layers, units, heads, None)
    _check(stream.channels, dims[0].width)
    return _Maps(layers, units, heads, (stream.channels, stream.signs.astype(np.float64)))


def _check(order: Indices, size: int) -> None:
    """That an order names each of so many parts once."""
    if not np.array_equal(np.sort(order), np.arange(size)):
        raise _UnfitError


@dataclass(frozen=True, slots=True)
class _Misses:
    """How many numbers of a tensor miss what they should be by more than half a step; none of one that is the same."""

    over: int = 0
    """By so much and a little more than what is estimated is uncertain."""
    far: int = 0
    """By so much and far more than that."""
    wild: int = 0
    """By twice that."""
    size: int = 0

    @property
    def follows(self) -> bool:
        """Whether rounding explains all numbers."""
        return not self.wild and self.far <= _FAR * self.size and self.over <= max(_STRAY * self.size, _FEWEST_OVER)


class _Way:
    """From one model, the source, to the other."""

    def __init__(self, models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy], maps: _Maps) -> None:
        self._models, self._anatomies, self._maps = models, anatomies, maps

    def back(self) -> _Way:
        """The other way round."""
        return _Way(self._models[::-1], self._anatomies[::-1], self._maps.invert())

    def measure(self, *, strict: bool) -> tuple[int, int] | None:
        """How many numbers of tensors that are not the same miss, and how many there are.

        With ``strict`` it is ``None`` as soon as a tensor does not follow; without, if a tensor has no counterpart.
        """
        missed, numbers = 0, 0
        for role in sorted(self._anatomies[1].views, key=_cheapest_first):
            found = self._judge(role)
            if found is None or (strict and not found.follows):
                return None
            missed, numbers = missed + found.over, numbers + found.size
        return missed, numbers

    def _judge(self, role: Role) -> _Misses | None:
        if role.part == "weight" and role.kind in self._folded:
            return _Misses()
        pair = self._read(role)
        target = pair[1]
        given = self._predict(role, pair[0])
        if given is None:
            return None
        predicted, error = given
        if predicted.shape != target.shape or not np.isfinite(predicted).all() or not np.isfinite(target).all():
            return None
        if np.array_equal(predicted, target):
            return _Misses()
        kind = find_step(target.astype(np.float32), stored_type(self._models[1], self._anatomies[1].views[role]))
        if kind is None or stored_type(self._models[0], self._anatomies[0].views[self._source(role)]) == "":
            return None
        step = ulp(target.astype(np.float32), kind)
        if role.kind in _RESCALED and not (self._known and np.array_equal(predicted, target)):
            predicted, error = self._rescale(role, predicted, target, step, error)
        off = np.abs(predicted - target)
        half = _HALF * step + _ARITHMETIC * float(np.sqrt(np.mean(target**2)))
        over, far, wild = (
            int((off > part * half + many * error).sum()) for part, many in ((1, _FEW), (1, _MANY), (2, 2 * _MANY))
        )
        return _Misses(over, far, wild, target.size)

    @property
    def _known(self) -> bool:
        return self._maps.channels is not None

    @cached_property
    def _folded(self) -> frozenset[str]:
        """Norms whose gains may stand in what reads through them."""
        traits = self._anatomies[1].traits
        return frozenset(_NORM_OF.values()) if traits.norm == "rms" and traits.pre_norm else frozenset()

    def _source(self, role: Role) -> Role:
        layer = -1 if role.layer < 0 else self._maps.layers[role.layer]
        place = self._maps.units.get(Place(role.layer, role.expert, role.shared))
        found = replace(role, layer=layer)
        if place is not None and role.kind in ("ffn.gate", "ffn.up", "ffn.down"):
            found = replace(found, layer=place[0].layer, expert=place[0].expert, shared=place[0].shared)
        if found not in self._anatomies[0].views and role.kind == "unembed":
            found = replace(found, kind="embed.token")
        if found not in self._anatomies[0].views:
            raise _UnfitError
        return found

    def _read(self, role: Role) -> tuple[Floats, Floats]:
        """The source's tensor with everything but the stream in the target's order, and the target's."""
        view, source = self._anatomies[1].views[role], self._source(role)
        known = self._anatomies[0].views[source]
        if sorted(view.axes) != sorted(known.axes) or view.axes.count(Space.RESIDUAL) > 1:
            raise _UnfitError
        lead = next((axis for axis in view.axes if axis is not Space.RESIDUAL), view.axes[0])
        a, b = (
            read_view(model, v, lead).astype(np.float64) for model, v in zip(self._models, (known, view), strict=True)
        )
        spaces = [lead, *(axis for axis in view.axes if axis is not lead)]
        for axis, space in enumerate(spaces):
            order = self._order(role, space, a.shape[axis])
            if order is not None:
                a = np.take(a, order, axis=axis)
        return a, b

    def _order(self, role: Role, space: Space, length: int) -> Indices | None:
        heads = self._maps.heads.get(role.layer)
        if space is Space.FFN and (place := self._maps.units.get(Place(role.layer, role.expert, role.shared))):
            return place[1]
        if heads is not None and space in (Space.QUERY, Space.HEAD, Space.KV, Space.KEY):
            order = heads[0] if space in (Space.QUERY, Space.HEAD) else heads[1]
            size, rest = divmod(length, len(order))
            if rest:
                raise _UnfitError
            return np.asarray((order[:, None] * size + np.arange(size)).ravel(), dtype=np.intp)
        if space is Space.EXPERT:
            found = [self._maps.units.get(Place(role.layer, expert, False)) for expert in range(length)]
            order = np.array([-1 if place is None else place[0].expert for place in found], dtype=np.intp)
            _check(order, length)
            return order
        return None

    def _gains(self, side: int, role: Role) -> Floats | None:
        """The gains of the norm through which a tensor reads the stream."""
        kind = _NORM_OF.get(role.kind, "")
        if kind not in self._folded or role.part != "weight":
            return None
        layer = role.layer if side or role.layer < 0 else self._maps.layers[role.layer]
        views = self._anatomies[side].views
        view = views.get(Role(kind, layer=layer)) or views.get(Role("norm.attn", layer=layer))
        if view is None:
            return None
        gains = read_view(self._models[side], view, Space.RESIDUAL).astype(np.float64)
        return gains + 1.0 if self._anatomies[side].traits.norm_offset else gains

    def _predict(self, role: Role, a: Floats) -> tuple[Floats, Floats | float] | None:
        """What a tensor of the target should be, before units are rescaled, and the standard error of each number."""
        if Space.RESIDUAL not in self._anatomies[1].views[role].axes:
            return a, 0.0
        gains = [self._gains(side, role) for side in (0, 1)]
        if (gains[0] is None) != (gains[1] is None):
            return None
        if self._maps.channels is None:
            if role.kind.startswith("norm.") and role.part == "weight":
                return a, 0.0
            read = a if gains[0] is None else a * gains[0]
            turned, error = self._turn(read)
            if gains[1] is None:
                return turned, error
            return (turned / gains[1], error / np.abs(gains[1])) if gains[1].all() else None
        channels, signs = self._maps.channels
        a = a[..., channels]
        if not (role.kind.startswith("norm.") and role.part == "weight"):
            a = a * signs
        if gains[0] is not None and gains[1] is not None:
            mine = gains[0][channels]
            if (mine != gains[1]).any():
                if not gains[1].all():
                    return None
                a = a * (mine / gains[1])
        return a, 0.0

    def _turn(self, rows: Floats) -> tuple[Floats, Floats]:
        rotation, covariance, noise = self._rotation
        spread = ((rows @ covariance) * rows).sum(axis=-1, keepdims=True)
        return rows @ rotation, np.asarray(np.sqrt(np.maximum(spread, 0.0) * noise), dtype=np.float64)

    @cached_property
    def _rotation(self) -> tuple[Floats, Floats, Floats]:
        """The matrix that carries the source's stream to the target's, by least squares over all rows that keep their lengths, the
        covariance of its columns, and how much noisier than others each of these is. Rows weigh by how finely the target holds them."""
        width = self._anatomies[1].dims.width
        gram, cross, noise, rows = np.zeros((width, width)), np.zeros((width, width)), np.zeros(width), 0
        for role in sorted(self._anatomies[1].views):
            view = self._anatomies[1].views[role]
            if Space.RESIDUAL not in view.axes or len(view.axes) != 2 or role.kind in _RESCALED:
                continue
            a, b = self._read(role)
            gains = [self._gains(side, role) for side in (0, 1)]
            a, b = (x if gain is None else x * gain for x, gain in zip((a, b), gains, strict=True))
            kind = find_step(b.astype(np.float32), stored_type(self._models[1], view))
            if kind is None:
                raise _UnfitError
            variance = ulp(b.astype(np.float32), kind) ** 2 / 12
            weight = 1.0 / np.maximum(variance.mean(axis=1, keepdims=True), _TINY)
            gram += a.T @ (weight * a)
            cross += a.T @ (weight * b)
            noise += (weight * variance).sum(axis=0)
            rows += len(a)
        if rows < _ROWS_PER_CHANNEL * width or np.linalg.matrix_rank(gram) < width:
            raise _UnfitError
        covariance: Floats = np.linalg.inv(gram).astype(np.float64)
        return np.linalg.solve(gram, cross).astype(np.float64), covariance, noise / rows

    def _rescale(
        self, role: Role, predicted: Floats, target: Floats, step: Floats, error: Floats | float
    ) -> tuple[Floats, Floats | float]:
        """With a factor for each unit or value dimension; for values, where factors do not do, with a matrix for each group of heads."""
        if role.kind.startswith("ffn.") and (not self._anatomies[1].traits.gated or target.ndim == 1):
            return predicted, error
        rows, wanted = (x[:, None] if x.ndim == 1 else x for x in (predicted, target))
        if self._anatomies[1].views[role].axes == (Space.RESIDUAL,):
            return predicted, error  # the bias of an output writes to the stream
        exact = not np.any(error)
        factors, spread = _fit_factors(rows, wanted, step.reshape(wanted.shape), exact=exact)
        scaled = (rows * factors[:, None]).reshape(target.shape)
        known = np.abs(factors)[:, None] * np.broadcast_to(np.asarray(error), target.shape).reshape(wanted.shape)
        spread = np.hypot(known, np.abs(rows) * spread[:, None]).reshape(target.shape)
        if role.kind.startswith("ffn.") or target.ndim == 1:
            return scaled, spread
        off = np.abs(scaled - target) > _HALF * step + _MANY * spread
        if off.mean() <= _MIXED:
            return scaled, spread
        return self._mix(role, predicted, target, step, error)

    def _mix(
        self, role: Role, predicted: Floats, target: Floats, step: Floats, error: Floats | float
    ) -> tuple[Floats, Floats | float]:
        dims = self._anatomies[1].dims
        if not (dims.kv_heads and dims.heads) or len(target) % dims.kv_heads:
            return predicted, error
        groups = dims.kv_heads
        heads = dims.heads // groups if role.kind == "attn.o" else 1
        size = len(target) // groups // heads
        out, spread = np.empty_like(target), np.empty_like(target)
        errors = np.broadcast_to(np.asarray(error), target.shape)
        for group in range(groups):
            here = slice(group * heads * size, (group + 1) * heads * size)
            # the rows of all heads of a group side by side: (dimensions, heads × width)
            a, b, steps, e = (
                x[here].reshape(heads, size, -1).swapaxes(0, 1).reshape(size, -1)
                for x in (predicted, target, step, errors)
            )
            gram = a @ a.T
            if np.linalg.matrix_rank(gram) < size:
                return predicted, error
            mixing = np.linalg.solve(gram, a @ b.T).T
            leverage = np.einsum("ij,ik,kj->j", a, np.linalg.inv(gram), a)
            noise = np.sqrt(np.mean(steps**2, axis=1) / 12)
            fit = noise[:, None] * np.sqrt(leverage)[None]
            known = np.sqrt((mixing**2) @ (e**2))
            for whole, part in ((out, mixing @ a), (spread, np.hypot(fit, known))):
                whole[here] = part.reshape(size, heads, -1).swapaxes(0, 1).reshape(heads * size, -1)
        return out, spread


def _fit_factors(rows: Floats, wanted: Floats, step: Floats, *, exact: bool) -> tuple[Floats, Floats]:
    """For each row the factor that brings it nearest to what is wanted, and its standard error.

    Where rows are known exactly it is one that keeps within half a step everywhere, if there is one.
    """
    noise = np.maximum(np.mean(step**2, axis=1) / 12, _TINY)
    square = np.maximum(np.einsum("ij,ij->i", rows, rows), _TINY)
    fitted, error = np.einsum("ij,ij->i", rows, wanted) / square, np.sqrt(noise / square)
    if not exact:
        return fitted, error
    size, side = np.abs(rows), np.where(rows < 0, -wanted, wanted)
    low = np.divide(side - step / 2, size, out=np.full_like(rows, -np.inf), where=size > 0).max(axis=1)
    high = np.divide(side + step / 2, size, out=np.full_like(rows, np.inf), where=size > 0).min(axis=1)
    inside = np.isfinite(low) & np.isfinite(high) & (low <= high)
    factors = np.where(inside, (low + high) / 2, fitted)
    return factors.astype(np.float64), np.where(inside, 0.0, error).astype(np.float64)


def _cheapest_first(role: Role) -> tuple[bool, Role]:
    """Token tables last: they are large, and what trains leaves no layer as it was."""
    return role.layer < 0, role
