"""The nouns of a family file: a family, its rules, and what they say of a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from homolog.roles.names import Key, Template
from homolog.roles.role import Role, Space, Traits

__all__ = ["Architecture", "Ignore", "Part", "Rule", "Target"]


@dataclass(frozen=True, slots=True)
class Part:
    """What a tensor does, or one of the blocks of a fused tensor."""

    kind: str
    part: str = "weight"
    detail: str = ""
    shared: bool = False
    space: Space | None = None
    """What the block counts along the fused axis; ``None`` for a whole tensor."""

    def role(self, layer: int, expert: int) -> Role:
        """The role of one layer and expert."""
        return Role(self.kind, self.part, layer, expert, self.shared, self.detail)

    def matches(self, wanted: str) -> bool:
        """Whether ``wanted`` (a kind, or a kind with a part or a detail after a blank) means this part."""
        return wanted in (self.kind, f"{self.kind} {self.part}", f"{self.kind} {self.detail}")


@dataclass(frozen=True)
class Rule:
    """Tensors with a role: names, roles, and what the stored axes count."""

    names: tuple[Template, ...]
    """Several spellings of one tensor, the preferred one first."""
    parts: tuple[Part, ...]
    """One for a whole tensor, several for a fused one, in stored order."""
    axes: tuple[Space | None, ...]
    """In stored order, after the leading ones; ``None`` marks the fused axis."""
    leading: tuple[str, ...] = ()
    """Axes before those: ``stacked`` lists experts, ``single`` has length 1."""
    flat: bool = False
    """Whether the last of the axes stands for all that are left."""
    order: str = "equal"
    """How fused parts lie along their axis: see docs/adding-a-family.md."""
    top: bool = False
    """Whether the name starts at the top of the model instead of at its body (heads)."""
    required: bool = True
    also: bool = False
    """Another way to store roles that a required rule names: whichever is found will do."""
    variant: str = ""
    """A layer has one variant whole: required only in layers where any tensor of the variant is stored."""
    stack: str = ""
    """A second stack of layers (a decoder); its layers are numbered on from those of the stacks before."""
    fixed: str = ""
    """Why no training moves it; empty if training does."""
    orders: Mapping[str, str] = field(default_factory=dict)
    """Spaces that are ordered by design in a model that holds this tensor, with the reason."""

    @property
    def fused_axis(self) -> int:
        """The axis along which several roles lie, not counting the leading ones; -1 for none."""
        return self.axes.index(None) if None in self.axes else -1

    @property
    def stacked(self) -> bool:
        """Whether the tensor holds all experts of a layer."""
        return "stacked" in self.leading

    @cached_property
    def gives(self) -> frozenset[tuple[Part, bool, str]]:
        """The roles that it gives, apart from layer and number: part, whether of one expert, and stack."""
        expert = self.stacked or self.names[0].expert >= 0
        return frozenset((replace(part, space=None), expert, self.stack) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Ignore:
    """Tensors that have no role, and why."""

    names: tuple[Template, ...]
    reason: str
    top: bool = False
    orders: Mapping[str, str] = field(default_factory=dict)
    below: tuple[str, ...] = ()
    """Prefixes: whatever stands below them and has no role."""


@dataclass(frozen=True, slots=True)
class Target:
    """One spelling of a rule, or of names to ignore."""

    spelling: Template
    preferred: int
    """Among the spellings of its rule, 0 is the best."""
    rule: int
    """Its number in the family, -1 for names to ignore."""
    ignore: Ignore | None = None


@dataclass(frozen=True)
class Architecture:
    """A family: its rules, and where its config states the sizes."""

    id: str
    title: str
    source: str
    """Where the names were read."""
    model_types: tuple[str, ...]
    """Values of ``model_type`` in config.json that hint at this family."""
    preference: int
    """Between families that fit equally well, the smaller one is taken."""
    bases: tuple[str, ...]
    """Prefixes of the body below the top of the model; ``*`` stands for any."""
    needs: str
    """A variant that some layer must have, because without it the checkpoint is of another family; empty for none."""
    anchor: Template
    """A tensor that every layer has; what stands before it is the prefix of the body."""
    traits: Traits
    config: Mapping[str, tuple[str, ...]]
    """Key of config.json (dotted where nested) for each size, the preferred one first."""
    rules: tuple[Rule, ...]
    ignores: tuple[Ignore, ...]
    notes: tuple[str, ...] = ()
    abstract: bool = False
    """Whether it only lends its rules to families that extend it."""

    @cached_property
    def targets(self) -> Mapping[bool, Mapping[Key, Sequence[Target]]]:
        """What the family says of each key below its top (``True``) and below its body (``False``)."""
        keys: dict[bool, dict[Key, list[Target]]] = {True: {}, False: {}}
        for number, rule in enumerate(self.rules):
            for preferred, spelling in enumerate(rule.names):
                keys[rule.top].setdefault(spelling.key, []).append(Target(spelling, preferred, number))
        for ignore in self.ignores:
            for spelling in ignore.names:
                keys[ignore.top].setdefault(spelling.key, []).append(Target(spelling, 0, -1, ignore))
        return keys

    @cached_property
    def common(self) -> tuple[Rule, ...]:
        """The rules that every layer of the first stack must meet in one way only."""
        others = {role for rule in self.rules if rule.also for role in rule.gives}
        return tuple(
            rule
            for rule in self.rules
            if rule.required and rule.names[0].layer >= 0 and not (rule.variant or rule.stack or rule.gives & others)
        )

    @cached_property
    def stacks(self) -> tuple[str, ...]:
        """The stacks of layers, in the order in which they are numbered."""
        return tuple(dict.fromkeys(rule.stack for rule in self.rules if rule.names[0].layer >= 0))
