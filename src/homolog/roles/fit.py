"""How well one family accounts for the names and shapes of a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from homolog.checkpoint.base import TensorInfo
from homolog.roles.names import Key, NameTable, Template
from homolog.roles.role import Role, Space, View
from homolog.roles.rules import Architecture, Ignore, Part, Rule

__all__ = ["Fit", "Place", "fit", "places"]

MOST_MISSING = 1000
_MOST_ANCESTORS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A family laid onto a checkpoint: where its body and its top begin, and how many names it then knows."""

    family: Architecture
    body: str
    top: str
    known: int


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
    required: int
    """How many required tensors were found."""
    orders: Mapping[str, str]
    fixed: Mapping[str, str]
    problem: str | None
    """Why the shapes cannot be this family's, in words."""


def places(family: Architecture, table: NameTable) -> Place | None:
    """The best way to lay the family onto the names; ``None`` if no name looks like its layers."""
    body_keys, top_keys = _keys(family, top=False), _keys(family, top=True)
    best: Place | None = None
    for body in table.prefixes_before(family.anchor):
        groups = table.below(body)
        in_body = {name for key in groups.keys() & body_keys.keys() for name, _ in groups[key]}
        for top in _tops(family, body):
            above = table.below(top)
            names = (name for key in above.keys() & top_keys.keys() for name, _ in above[key])
            known = len(in_body) + sum(name not in in_body for name in names)
            if best is None or known > best.known:
                best = Place(family, body, top, known)
    return best


def fit(place: Place, table: NameTable, tensors: Mapping[str, TensorInfo]) -> Fit:
    """Give every tensor its role, or its reason for none."""
    family = place.family
    found: dict[tuple[int, int, int], list[tuple[int, str]]] = {}
    unused: dict[str, str] = {}
    orders: dict[str, str] = {}
    for prefix, top in ((place.body, False), (place.top, True)):
        groups = table.below(prefix)
        for key, targets in _keys(family, top=top).items():
            for name, holes in groups.get(key, ()):
                target = next((target for target in targets if target.spelling.fits(holes)), None)
                if target is None:
                    continue
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
        (_, name), *others = sorted(spellings)
        unused |= {other: f"another spelling of {name}, which is read instead" for _, other in others}
        orders |= rule.orders
        if rule.fixed:
            fixed[name] = rule.fixed
        made = _views(rule, tensors[name], layer, expert)
        if isinstance(made, str):
            problem = problem or made
        else:
            views |= made
    missing, required = _missing(place, views, found)
    explained = unused.keys() | {name for spellings in found.values() for _, name in spellings}
    return Fit(
        family=family,
        views=dict(sorted(views.items())),
        unused=unused,
        unexplained=tuple(name for name in table.names if name not in explained),
        missing=missing,
        required=required,
        orders=orders,
        fixed=fixed,
        problem=problem,
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """One spelling of a rule, or of names to ignore."""

    spelling: Template
    preferred: int
    """Among the spellings of its rule, 0 is the best."""
    rule: int
    """Its number in the family, -1 for names to ignore."""
    ignore: Ignore | None = None


def _keys(family: Architecture, *, top: bool) -> dict[Key, list[_Target]]:
    keys: dict[Key, list[_Target]] = {}
    for number, rule in enumerate(family.rules):
        if rule.top is top:
            for preferred, spelling in enumerate(rule.names):
                keys.setdefault(spelling.key, []).append(_Target(spelling, preferred, number))
    for ignore in family.ignores:
        if ignore.top is top:
            for spelling in ignore.names:
                keys.setdefault(spelling.key, []).append(_Target(spelling, 0, -1, ignore))
    return keys


def _tops(family: Architecture, body: str) -> list[str]:
    """Where the top of the model may lie, above its body."""
    if "*" in family.bases:
        steps = body.split(".")[:-1]
        return ["".join(f"{step}." for step in steps[:depth]) for depth in range(min(len(steps), _MOST_ANCESTORS) + 1)]
    bases = [base for base in ("", *family.bases) if body == base or f".{body}".endswith(f".{base}")]
    return sorted((body[: len(body) - len(base)] for base in bases), key=len)


def _views(rule: Rule, info: TensorInfo, layer: int, expert: int) -> dict[Role, View] | str:
    """The roles that lie in one tensor, or why its shape cannot hold them."""
    if len(info.shape) != len(rule.axes) or 0 in info.shape:
        return f"{info.name} has shape {info.shape}, where its role has the axes {_axes(rule)}"
    if not info.dtype.startswith(("F", "BF")):
        return f"{info.name} is stored as {info.dtype}: quantised and packed weights are not read"
    axis, count = rule.fused_axis, len(rule.parts)
    if axis < 0:
        axes = tuple(space for space in rule.axes if space is not None)
        return {_role(rule.parts[0], layer, expert): View(info.name, axes, info.shape)}
    if info.shape[axis] % count:
        return f"{info.name} has shape {info.shape}, where axis {axis} holds {count} equal parts"
    size = info.shape[axis] // count
    views: dict[Role, View] = {}
    for number, part in enumerate(rule.parts):
        axes = tuple(space or part.space or Space.OTHER for space in rule.axes)
        shape = (*info.shape[:axis], size, *info.shape[axis + 1 :])
        start = number * size
        views[_role(part, layer, expert)] = View(info.name, axes, shape, axis, start, start + size)
    return views


def _role(part: Part, layer: int, expert: int) -> Role:
    return Role(part.kind, part.part, layer, expert, part.shared, part.detail)


def _axes(rule: Rule) -> str:
    return " × ".join("fused" if axis is None else axis.value for axis in rule.axes)


def _missing(
    place: Place, views: Mapping[Role, View], found: Mapping[tuple[int, int, int], object]
) -> tuple[tuple[str, ...], int]:
    """Required tensors that were not found, in words and at most a thousand of them, and how many were found."""
    rules = place.family.rules
    layers = 1 + max((layer for _, layer, _ in found), default=-1)
    experts = _experts(views)
    variants: dict[int, set[str]] = {}
    for number, layer, _ in found:
        variants.setdefault(layer, set()).add(rules[number].variant)
    every = {rule.variant for rule in rules} - {""}

    def absent() -> Iterator[str]:
        for number, rule in enumerate(rules):
            spelling = rule.names[0]
            if not rule.required:
                continue
            for layer in range(layers) if spelling.layer >= 0 else (-1,):
                if rule.variant and rule.variant not in variants.get(layer, ()):
                    continue
                for expert in range(experts.get(layer, 0)) if spelling.expert >= 0 else (-1,):
                    if (number, layer, expert) not in found:
                        start = place.top if rule.top else place.body
                        roles = " and ".join(str(_role(part, layer, expert)) for part in rule.parts)
                        yield f"{roles} ({start}{spelling.fill(layer, expert)})"
        for layer in range(layers) if every else ():
            if not every & variants.get(layer, set()):
                yield f"layer {layer} FFN, {' or '.join(sorted(every))}"

    missing = list(islice(absent(), MOST_MISSING + 1))
    if len(missing) > MOST_MISSING:
        missing[-1] = "and more"
    return tuple(missing), sum(rules[number].required for number, _, _ in found)


def _experts(views: Mapping[Role, View]) -> Counter[int]:
    """Routed experts of each layer, as its router counts them or as they are numbered."""
    counts: Counter[int] = Counter()
    for role, view in views.items():
        if role.kind == "ffn.router" and Space.EXPERT in view.axes:
            counts[role.layer] = max(counts[role.layer], view.shape[view.axes.index(Space.EXPERT)])
        elif role.expert >= 0:
            counts[role.layer] = max(counts[role.layer], role.expert + 1)
    return counts
