"""How well one family accounts for the names and shapes of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from homolog.checkpoint.base import TensorInfo
from homolog.roles.names import NameTable, shorten
from homolog.roles.place import Place, targets
from homolog.roles.role import Role, Space, View
from homolog.roles.roll import call_roll
from homolog.roles.rules import Architecture, Rule

__all__ = ["Fit", "fit"]

MOST_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Fit:
    """A family with every tensor that it accounts for."""

    family: Architecture
    views: Mapping[Role, View]
    unused: Mapping[str, str]
    """Known tensors without a role, with the reason."""
    unexplained: tuple[str, ...]
    """Tensors that no rule names."""
    missing: tuple[str, ...]
    """Required tensors that were not found, in words; a thousand of them at most, and how many more there are."""
    lost: int
    """How many are missing."""
    required: int
    """How many required tensors were found."""
    orders: Mapping[str, str]
    fixed: Mapping[str, str]
    lacks: str
    """The variant that the family needs and no layer has; empty if there is none."""
    problem: str | None
    """Why the shapes cannot be this family's, in words."""


def fit(place: Place, table: NameTable, tensors: Mapping[str, TensorInfo]) -> Fit:
    """Give every tensor its role, or its reason for none."""
    family = place.family
    found: dict[tuple[int, int, int], list[tuple[int, str]]] = {}
    """Rule, layer and expert, with every spelling that is stored."""
    claimed: set[str] = set()
    unused: dict[str, str] = {}
    orders: dict[str, str] = {}
    for prefix, top in ((place.body, False), (place.top, True)):
        groups = table.below(prefix)
        for key, candidates in targets(family, top=top).items():
            for name, holes in groups.get(key, ()):
                target = next((target for target in candidates if target.spelling.fits(holes)), None)
                if target is None or name in claimed:
                    continue
                claimed.add(name)
                if target.ignore is not None:
                    unused[name] = target.ignore.reason
                    orders |= target.ignore.orders
                else:
                    spelling = target.spelling
                    layer = holes[spelling.layer] if spelling.layer >= 0 else -1
                    expert = holes[spelling.expert] if spelling.expert >= 0 else -1
                    found.setdefault((target.rule, layer, expert), []).append((target.preferred, name))
    views: dict[Role, View] = {}
    fixed: dict[str, str] = {}
    problem: str | None = None
    for (number, layer, expert), spellings in found.items():
        rule = family.rules[number]
        (_, name), *others = sorted(spellings) if len(spellings) > 1 else spellings
        unused |= {other: f"another spelling of {shorten(name)}, which is read instead" for _, other in others}
        orders |= rule.orders
        if rule.fixed:
            fixed[name] = rule.fixed
        made = _views(rule, tensors[name], layer, expert)
        if isinstance(made, str):
            problem = problem or made
        elif twice := made.keys() & views.keys():
            first = views[min(twice)].tensor
            unused[name] = f"{shorten(first)} has the same role and is read instead"
        else:
            views |= made
    roll = call_roll(place, views, found)
    required, lost = roll.count()
    missing = list(islice(roll.absent(), MOST_NAMED))
    if lost > len(missing):
        missing.append(f"and {lost - len(missing)} more")
    return Fit(
        family=family,
        views=dict(sorted(views.items(), key=_order)),
        unused=unused,
        unexplained=tuple(name for name in table.names if name not in claimed),
        missing=tuple(missing),
        lost=lost,
        required=required,
        orders=orders,
        fixed=fixed,
        lacks="" if any(family.rules[number].variant == family.needs for number, _, _ in found) else family.needs,
        problem=problem,
    )


def _views(rule: Rule, info: TensorInfo, layer: int, expert: int) -> dict[Role, View] | str:
    """The roles that lie in one tensor, or why its shape cannot hold them."""
    if len(info.shape) != len(rule.axes) or 0 in info.shape:
        return f"{shorten(info.name)} has shape {_times(info.shape)}, where its role has the axes {_axes(rule)}"
    if not info.dtype.startswith(("F", "BF")):
        return f"{shorten(info.name)} is stored as {info.dtype}: quantised and packed weights are not read"
    axis, count = rule.fused_axis, len(rule.parts)
    order = _stored_order(info)
    if axis < 0:
        axes = tuple(space for place in order if (space := rule.axes[place]) is not None)
        return {rule.parts[0].role(layer, expert): View(info.name, axes, info.shape)}
    axis = order.index(axis)
    if info.shape[axis] % count:
        return f"{shorten(info.name)} has shape {_times(info.shape)}, where axis {axis} holds {count} equal parts"
    size = info.shape[axis] // count
    views: dict[Role, View] = {}
    for number, part in enumerate(rule.parts):
        axes = tuple(rule.axes[place] or part.space or Space.OTHER for place in order)
        shape = (*info.shape[:axis], size, *info.shape[axis + 1 :])
        start = number * size
        views[part.role(layer, expert)] = View(info.name, axes, shape, axis, start, start + size)
    return views


def _stored_order(info: TensorInfo) -> list[int]:
    """Which axis of the rule each stored axis is."""
    order = list(range(len(info.shape)))
    return [*order[:-2], *order[:-3:-1]] if info.transposed else order


def _order(item: tuple[Role, View]) -> tuple[object, ...]:
    """As `Role` compares, without building its tuple at each comparison."""
    role = item[0]
    return (role.kind, role.part, role.layer, role.expert, role.shared, role.detail)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in shape[:8]) + ("×…" if len(shape) > 8 else "") if shape else "of a scalar"


def _axes(rule: Rule) -> str:
    return " × ".join("fused" if axis is None else axis.value for axis in rule.axes)
