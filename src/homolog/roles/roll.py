"""The roll-call of a family: which of its required tensors are there, and which are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from homolog.roles.names import shorten
from homolog.roles.place import Place
from homolog.roles.role import Role, Space, View
from homolog.roles.rules import Rule

__all__ = ["Roll", "call_roll"]


@dataclass(frozen=True, slots=True)
class Roll:
    """Which required tensors there should be, and which were found."""

    place: Place
    found: Mapping[tuple[int, int, int], object]
    layers: int
    experts: Mapping[int, int]
    variants: Mapping[int, set[str]]

    def expected_in(self, rule: Rule) -> Sequence[int]:
        """The layers that should have the rule's tensor, -1 for one that stands outside of the layers."""
        if rule.names[0].layer < 0:
            return (-1,)
        if not rule.variant:
            return range(self.layers)
        return [layer for layer, held in sorted(self.variants.items()) if rule.variant in held]

    def undecided(self) -> list[int]:
        """Layers that hold none of the family's variants whole or in part."""
        every = {rule.variant for rule in self.place.family.rules} - {""}
        none: set[str] = set()
        return [layer for layer in range(self.layers) if every and not every & self.variants.get(layer, none)]

    def count(self) -> tuple[int, int]:
        """How many required tensors were found, and how many are missing."""
        rules = self.place.family.rules
        expected = len(self.undecided())
        for rule in rules:
            if rule.required:
                layers = self.expected_in(rule)
                expected += sum(self.experts.get(at, 0) for at in layers) if rule.names[0].expert >= 0 else len(layers)
        found = sum(rules[number].required for number, _, _ in self.found)
        return found, expected - found

    def absent(self) -> Iterator[str]:
        """The missing ones, in words."""
        for number, rule in enumerate(self.place.family.rules):
            spelling = rule.names[0]
            for layer in self.expected_in(rule) if rule.required else ():
                for expert in range(self.experts.get(layer, 0)) if spelling.expert >= 0 else (-1,):
                    if (number, layer, expert) not in self.found:
                        start = self.place.top if rule.top else self.place.body
                        roles = " and ".join(str(part.role(layer, expert)) for part in rule.parts)
                        yield f"{roles} ({shorten(start + spelling.fill(layer, expert))})"
        variants = sorted({rule.variant for rule in self.place.family.rules} - {""})
        for layer in self.undecided():
            yield f"layer {layer} FFN, {' or '.join(variants)}"


def call_roll(place: Place, views: Mapping[Role, View], found: Mapping[tuple[int, int, int], object]) -> Roll:
    """``found`` has the number of the rule, the layer and the expert of every tensor with a role."""
    variants: dict[int, set[str]] = {}
    for number, layer, _ in found:
        variants.setdefault(layer, set()).add(place.family.rules[number].variant)
    layers = 1 + max((layer for _, layer, _ in found), default=-1)
    return Roll(place, found, layers, _experts(views), variants)


def _experts(views: Mapping[Role, View]) -> Counter[int]:
    """Routed experts of each layer, as its router counts them or as they are numbered."""
    counts: Counter[int] = Counter()
    for role, view in views.items():
        if role.kind == "ffn.router" and Space.EXPERT in view.axes:
            counts[role.layer] = max(counts[role.layer], view.shape[view.axes.index(Space.EXPERT)])
        elif role.expert >= 0:
            counts[role.layer] = max(counts[role.layer], role.expert + 1)
    return counts
