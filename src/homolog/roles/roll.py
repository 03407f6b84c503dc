"""The roll-call of a family: which of its required tensors are there, and which are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from homolog.roles.names import Template, shorten
from homolog.roles.place import Place
from homolog.roles.role import Role, Space, View
from homolog.roles.rules import Rule

__all__ = ["Key", "Roll", "call_roll"]

Key = tuple[int, int, int]
"""Number of a rule, layer in its stack, and expert; -1 for none."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Which required tensors there should be, and which were found."""

    place: Place
    found: Collection[Key]
    layers: Mapping[str, int]
    """Of each stack."""
    experts: Mapping[int, int]
    """Of each layer of the model."""
    variants: Mapping[tuple[str, int], set[str]]
    """Of each layer of a stack."""
    offsets: Mapping[str, int]
    shown: Mapping[int, Template]
    """For each rule the spelling that the model uses elsewhere."""

    def expected_in(self, rule: Rule) -> Sequence[int]:
        """The layers that should have the rule's tensor, -1 for one that stands outside of the layers."""
        if rule.names[0].layer < 0:
            return (-1,)
        if not rule.variant:
            return range(self.layers.get(rule.stack, 0))
        return [
            layer
            for (stack, layer), held in sorted(self.variants.items())
            if stack == rule.stack and rule.variant in held
        ]

    def experts_in(self, rule: Rule, layer: int) -> int:
        """Routed experts of a layer of the rule's stack."""
        return self.experts.get(layer + self.offsets[rule.stack], 0)

    def undecided(self) -> list[tuple[str, int]]:
        """Layers, by stack, that hold none of the stack's variants whole or in part."""
        rules = self.place.family.rules
        none: set[str] = set()
        left = []
        for stack, layers in self.layers.items():
            every = {rule.variant for rule in rules if rule.stack == stack} - {""}
            held = (self.variants.get((stack, layer), none) for layer in range(layers))
            left += [(stack, layer) for layer, variants in enumerate(held) if every and not every & variants]
        return left

    def count(self) -> tuple[int, int]:
        """How many required tensors were found, and how many are missing."""
        rules = self.place.family.rules
        expected = len(self.undecided())
        for rule in rules:
            if rule.required:
                layers = self.expected_in(rule)
                expected += (
                    sum(self.experts_in(rule, at) for at in layers) if rule.names[0].expert >= 0 else len(layers)
                )
        found = sum(rules[number].required for number, _, _ in self.found)
        return found, expected - found

    def absent(self) -> Iterator[str]:
        """The missing ones, in words."""
        for number, rule in enumerate(self.place.family.rules):
            spelling = self.shown.get(number, rule.names[0])
            for layer in self.expected_in(rule) if rule.required else ():
                for expert in range(self.experts_in(rule, layer)) if rule.names[0].expert >= 0 else (-1,):
                    if (number, layer, expert) not in self.found:
                        start = self.place.top if rule.top else self.place.body
                        shown = layer + self.offsets[rule.stack] if layer >= 0 else -1
                        roles = " and ".join(str(part.role(shown, expert)) for part in rule.parts)
                        yield f"{roles} ({shorten(start + spelling.fill(layer, expert))})"
        for stack, layer in self.undecided():
            variants = sorted({rule.variant for rule in self.place.family.rules if rule.stack == stack} - {""})
            yield f"layer {layer + self.offsets[stack]} FFN, {' or '.join(variants)}"


def call_roll(
    place: Place,
    views: Mapping[Role, View],
    found: Collection[Key],
    offsets: Mapping[str, int],
    shown: Mapping[int, Template],
) -> Roll:
    """``found`` has the number of the rule, the layer and the expert of every tensor with a role.

    ``offsets`` has the number of the first layer of each stack, ``shown`` how the model spells the names of a rule.
    """
    variants: dict[tuple[str, int], set[str]] = {}
    layers: Counter[str] = Counter()
    for number, layer, _ in found:
        rule = place.family.rules[number]
        variants.setdefault((rule.stack, layer), set()).add(rule.variant)
        layers[rule.stack] = max(layers[rule.stack], layer + 1)
    return Roll(place, found, layers, _experts(views), variants, offsets, shown)


def _experts(views: Mapping[Role, View]) -> Counter[int]:
    """Routed experts of each layer, as its router counts them or as they are numbered."""
    counts: Counter[int] = Counter()
    for role, view in views.items():
        if role.kind == "ffn.router" and Space.EXPERT in view.axes:
            counts[role.layer] = max(counts[role.layer], view.shape[view.axes.index(Space.EXPERT)])
        elif role.expert >= 0:
            counts[role.layer] = max(counts[role.layer], role.expert + 1)
    return counts
