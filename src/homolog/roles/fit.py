"""How well one family accounts for the names and shapes of a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from homolog.checkpoint.base import Checkpoint
from homolog.roles.names import NameTable, shorten
from homolog.roles.place import Place
from homolog.roles.role import Role, Space, View
from homolog.roles.roll import Key, call_roll
from homolog.roles.rules import Architecture, Rule, Target
from homolog.roles.sizes import Stated
from homolog.roles.views import Measures, Problem, Unread, find_views

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


@dataclass(slots=True)
class _Claims:
    """The names that a family knows."""

    found: dict[Key, list[tuple[int, str]]] = field(default_factory=dict)
    """Rule, layer and expert, with every spelling that is stored."""
    unused: dict[str, str] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def take(self, target: Target, name: str, holes: tuple[int, ...]) -> None:
        self.names.add(name)
        if target.ignore is not None:
            self.unused[name] = target.ignore.reason
            self.orders |= target.ignore.orders
            return
        spelling = target.spelling
        layer = holes[spelling.layer] if spelling.layer >= 0 else -1
        expert = holes[spelling.expert] if spelling.expert >= 0 else -1
        self.found.setdefault((target.rule, layer, expert), []).append((target.preferred, name))


def fit(place: Place, table: NameTable, checkpoint: Checkpoint) -> Fit:
    """Give every tensor its role, or its reason for none. Raises `MalformedCheckpoint` where config.json states no number of heads."""
    family = place.family
    claims = _claim(place, table)
    offsets = _number_stacks(family, claims.found)
    roles = _Roles(checkpoint, family, offsets, claims)
    for measured in (False, True):
        for key, spellings in claims.found.items():
            if (family.rules[key[0]].order in ("measured", "heads")) is measured:
                roles.read(key, spellings)
    shown = {key[0]: family.rules[key[0]].names[min(spellings)[0]] for key, spellings in claims.found.items()}
    met = _stand_ins(family, offsets, roles.given, roles.views)
    found = {*claims.found, *met}
    shown |= {number: family.rules[instead].names[0] for (number, _, _), instead in met.items()}
    roll = call_roll(place, roles.views, found, offsets, shown)
    required, lost = roll.count()
    missing = list(islice(roll.absent(), MOST_NAMED))
    if lost > len(missing):
        missing.append(f"and {lost - len(missing)} more")
    return Fit(
        family=family,
        views=dict(sorted(roles.views.items(), key=_order)),
        unused=claims.unused,
        unexplained=tuple(name for name in table.names if name not in claims.names),
        missing=tuple(missing),
        lost=lost,
        required=required,
        orders=claims.orders,
        fixed=roles.fixed,
        lacks="" if any(family.rules[number].variant == family.needs for number, _, _ in found) else family.needs,
        problem=roles.problem,
    )


def _claim(place: Place, table: NameTable) -> _Claims:
    claims = _Claims()
    for prefix, top in ((place.body, False), (place.top, True)):
        groups = table.below(prefix)
        for key, candidates in place.family.targets[top].items():
            for name, holes in groups.get(key, ()):
                target = next((target for target in candidates if target.spelling.fits(holes)), None)
                if target is not None and name not in claims.names:
                    claims.take(target, name, holes)
        for ignore in place.family.ignores:
            if ignore.top is top and ignore.below:
                apart = tuple(prefix + below for below in ignore.below)
                left = [name for name in table.names if name.startswith(apart) and name not in claims.names]
                claims.names.update(left)
                claims.unused |= dict.fromkeys(left, ignore.reason)
    return claims


def _number_stacks(family: Architecture, found: Iterable[Key]) -> dict[str, int]:
    """For each stack of layers the number of its first layer in the model."""
    depths: Counter[str] = Counter()
    for number, layer, _ in found:
        stack = family.rules[number].stack
        depths[stack] = max(depths[stack], layer + 1)
    offsets: dict[str, int] = {}
    for stack in family.stacks:
        offsets[stack] = sum(depths[earlier] for earlier in offsets)
    return offsets


class _Roles:
    """The roles of a fit while they are found, the whole tensors before the fused ones that are measured by them."""

    def __init__(
        self, checkpoint: Checkpoint, family: Architecture, offsets: Mapping[str, int], claims: _Claims
    ) -> None:
        self._tensors, self._family, self._offsets, self._claims = checkpoint.tensors, family, offsets, claims
        self._stated = Stated(checkpoint, family)
        self._sizes: dict[int, dict[Space, int]] = {}
        self._usual: dict[Space, int] = {}
        self.views: dict[Role, View] = {}
        self.given: dict[Key, tuple[Role, ...]] = {}
        self.fixed: dict[str, str] = {}
        self.problem: str | None = None

    def read(self, key: Key, spellings: list[tuple[int, str]]) -> None:
        """Take in the tensor of one rule, layer and expert; of several spellings the preferred one."""
        number, layer, expert = key
        rule, unused = self._family.rules[number], self._claims.unused
        (_, name), *others = sorted(spellings) if len(spellings) > 1 else spellings
        unused |= {other: f"another spelling of {shorten(name)}, which is read instead" for _, other in others}
        self._claims.orders |= rule.orders
        if rule.fixed:
            self.fixed[name] = rule.fixed
        layer += self._offsets[rule.stack] if layer >= 0 else 0
        heads = self._stated.value("heads")[0] if rule.order == "heads" else 0
        measures = Measures({**self._usual, **self._sizes.get(layer, {})}, heads)
        made = find_views(rule, self._tensors[name], layer, expert, measures)
        if isinstance(made, Problem):
            self.problem = self.problem or made.words
        elif isinstance(made, Unread):
            unused[name] = made.words
        elif twice := made.keys() & self.views.keys():
            unused[name] = f"{shorten(self.views[min(twice)].tensor)} has the same role and is read instead"
        else:
            self.views |= made
            self.given[key] = tuple(made)
            self._measure(rule, layer, made)

    def _measure(self, rule: Rule, layer: int, made: Mapping[Role, View]) -> None:
        if rule.order == "equal" and layer >= 0:
            view = next(iter(made.values()))
            sizes = self._sizes.setdefault(layer, {})
            for space, size in zip(view.axes, view.shape, strict=True):
                sizes.setdefault(space, size)
                self._usual.setdefault(space, size)


def _stand_ins(
    family: Architecture, offsets: Mapping[str, int], given: Mapping[Key, tuple[Role, ...]], views: Mapping[Role, View]
) -> dict[Key, int]:
    """Required tensors that are not there because their roles are stored in another way, and the rule of that way."""
    wanted = {number: rule.gives for number, rule in enumerate(family.rules) if rule.required}
    met: dict[Key, int] = {}
    for key, roles in given.items():
        rule = family.rules[key[0]]
        if not rule.also:
            continue
        layer = key[1] + offsets[rule.stack] if key[1] >= 0 else -1
        for number, parts in wanted.items():
            if parts & rule.gives:
                for expert in {role.expert for role in roles}:
                    if all(part.role(layer, expert) in views for part, _, _ in parts):
                        met[number, key[1], expert] = key[0]
    return met


def _order(item: tuple[Role, View]) -> tuple[object, ...]:
    """As `Role` compares, without building its tuple at each comparison."""
    role = item[0]
    return (role.kind, role.part, role.layer, role.expert, role.shared, role.detail)
