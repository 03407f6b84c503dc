"""The roles that lie in one tensor: one for a whole tensor, several for a fused one, and those of every expert for a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from homolog.checkpoint.base import TensorInfo
from homolog.roles.names import shorten
from homolog.roles.role import Role, Space, View
from homolog.roles.rules import Rule

__all__ = ["Measures", "Problem", "Unread", "find_views"]

_MOST_EXPERTS = 10_000
"""Of one stack; models have a few hundred."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the shape of a tensor cannot be the rule's, in words."""

    words: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a tensor that is the rule's cannot be taken apart, in words."""

    words: str


@dataclass(frozen=True, slots=True)
class Measures:
    """What the fused tensors of one layer must know from elsewhere to be taken apart."""

    sizes: Mapping[Space, int]
    """Sizes of spaces as other tensors have them."""
    heads: int = 0
    """Query heads as config.json states them; 0 if it does not."""


Found = dict[Role, View] | Problem | Unread


def find_views(rule: Rule, info: TensorInfo, layer: int, expert: int, measures: Measures) -> Found:
    """The roles in one tensor, each with its view."""
    shape = _inner_shape(rule, info)
    if shape is None:
        return Problem(
            f"{shorten(info.name)} has shape {_times(info.shape)}, where its role has the axes {_axes(rule)}"
        )
    if not info.real:
        return Problem(f"{shorten(info.name)} is stored as {info.dtype}: quantised and packed weights are not read")
    cuts = _cuts(rule, info, shape, measures)
    if not isinstance(cuts, list):
        return cuts
    experts = range(info.shape[rule.leading.index("stacked")]) if rule.stacked else (expert,)
    if len(experts) > _MOST_EXPERTS:
        return Problem(
            f"{shorten(info.name)} has shape {_times(info.shape)}, where at most {_MOST_EXPERTS} experts are"
        )
    views: dict[Role, View] = {}
    for number in experts:
        index = tuple(number if axis == "stacked" else 0 for axis in rule.leading)
        for part, cut in zip(rule.parts, cuts, strict=True):
            views[part.role(layer, number)] = View(
                info.name, cut.axes, cut.shape, cut.axis, cut.start, cut.stop, cut.run, cut.period, index
            )
    return views


def _inner_shape(rule: Rule, info: TensorInfo) -> tuple[int, ...] | None:
    """The shape behind the leading axes, as the rule counts it; ``None`` if the tensor has another one."""
    depth = len(rule.leading)
    leading, shape = info.shape[:depth], info.shape[depth:]
    if rule.flat and len(shape) > len(rule.axes):
        kept = len(rule.axes) - 1
        shape = (*shape[:kept], prod(shape[kept:]))
    single = all(size == 1 for axis, size in zip(rule.leading, leading, strict=False) if axis == "single")
    return shape if single and len(shape) == len(rule.axes) and 0 not in info.shape else None


def _cuts(rule: Rule, info: TensorInfo, shape: tuple[int, ...], measures: Measures) -> list[View] | Problem | Unread:
    """One view for each part, of a block that is not picked yet."""
    order = list(range(len(shape)))
    if info.transposed:
        order[-2:] = order[:-3:-1]
    if rule.fused_axis < 0:
        axes = tuple(space for place in order if (space := rule.axes[place]) is not None)
        return [View(info.name, axes, shape)]
    axis = order.index(rule.fused_axis)
    layout = _layout(rule, info, len(rule.leading) + axis, measures)
    if not isinstance(layout, list):
        return layout
    cuts = []
    for part, (start, size, run, period) in zip(rule.parts, layout, strict=True):
        axes = tuple(rule.axes[place] or part.space or Space.OTHER for place in order)
        stop = start + size if run in (0, size) else start + (size // run - 1) * period + run
        cut = (*shape[:axis], size, *shape[axis + 1 :])
        cuts.append(View(info.name, axes, cut, axis, start, stop, *((0, 0) if run == size else (run, period))))
    return cuts


def _layout(
    rule: Rule, info: TensorInfo, axis: int, measures: Measures
) -> list[tuple[int, int, int, int]] | Problem | Unread:
    """For each part where it starts, how many indices it has, how many of them lie together, and how far apart the runs begin."""
    total, count = info.shape[axis], len(rule.parts)
    told = f"{shorten(info.name)} has shape {_times(info.shape)}, where axis {axis} holds"
    if rule.order in ("equal", "alternating"):
        size, rest = divmod(total, count)
        if rest:
            return Problem(f"{told} {count} equal parts")
        together = rule.order == "equal"
        return [(number * (size if together else 1), size, 0 if together else 1, count) for number in range(count)]
    sizes = _sizes(rule, total, measures.sizes)
    if sizes is None:
        known = ", ".join(part.kind for part in rule.parts)
        return Problem(f"{told} {known}, which do not fit in it beside what the other tensors say")
    groups = 1
    if rule.order == "heads":
        if not measures.heads:
            return Unread("the parts lie in it head by head, and config.json does not say how many heads there are")
        groups = _groups(rule, sizes, measures.heads)
        if not groups or any(size % groups for size in sizes):
            return Problem(f"{told} parts that lie head by head, which {measures.heads} heads do not divide")
    runs = [size // groups for size in sizes]
    starts = accumulate(runs, initial=0)
    return [(start, size, run, sum(runs)) for start, size, run in zip(starts, sizes, runs, strict=False)]


def _sizes(rule: Rule, total: int, known: Mapping[Space, int]) -> list[int] | None:
    """The size of each part: as other tensors have it, and equal shares of the rest."""
    sizes = [known.get(part.space, 0) if part.space else 0 for part in rule.parts]
    unknown = sizes.count(0)
    rest = total - sum(sizes)
    if not unknown:
        return sizes if rest == 0 else None
    if rest <= 0 or rest % unknown:
        return None
    return [size or rest // unknown for size in sizes]


def _groups(rule: Rule, sizes: list[int], heads: int) -> int:
    """How many runs a part has: one for each key head, which is of the size of a query head; one for each head without queries."""
    spaces = [part.space for part in rule.parts]
    if Space.QUERY not in spaces:
        return heads
    query = sizes[spaces.index(Space.QUERY)]
    other = next(size for size, space in zip(sizes, spaces, strict=True) if space is not Space.QUERY)
    return other * heads // query if query % heads == 0 and other * heads % query == 0 else 0


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in shape[:8]) + ("×…" if len(shape) > 8 else "") if shape else "of a scalar"


def _axes(rule: Rule) -> str:
    words = (*rule.leading, *("fused" if axis is None else axis.value for axis in rule.axes))
    return " × ".join(words) + (" …" if rule.flat else "")
