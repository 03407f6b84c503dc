"""The schema of a family file: which keys there are, what they may hold, and an error that names file and key."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from homolog.errors import UsageError
from homolog.roles.names import Template, template
from homolog.roles.role import Space, Traits
from homolog.roles.rules import Architecture, Ignore, Part, Rule

__all__ = ["KINDS", "SIZES", "parse_architecture"]

KINDS = (
    *("embed.token", "embed.position", "embed.segment", "embed.project", "unembed"),
    *("norm.embed", "norm.attn", "norm.ffn", "norm.final", "norm.q", "norm.k"),
    *("attn.q", "attn.k", "attn.v", "attn.o"),
    *("ffn.gate", "ffn.up", "ffn.down", "ffn.router", "ffn.shared_gate", "head"),
)
SIZES = (
    *("layers", "width", "ffn", "vocab", "heads", "kv_heads", "head_dim"),
    *("experts", "expert_ffn", "shared_ffn", "positions", "segments"),
)
FUSED = "fused"

_FAMILY = ("id", "extends", "title", "source", "model_types", "preference", "bases", "anchor", "needs", "notes", "drop")
_TABLES = ("traits", "config", "tensor", "ignore")
_TENSOR = (
    *("name", "at", "role", "part", "detail", "shared", "axes", "fused"),
    *("required", "variant", "fixed", "orders"),
)
_FUSED_PART = ("role", "part", "detail", "shared", "space")
_IGNORE = ("name", "at", "reason", "orders")

T = TypeVar("T")


def parse_architecture(file: str, text: str, parents: Mapping[str, Architecture]) -> Architecture | None:
    """One family file; ``None`` if the family that it extends is not among ``parents`` yet.

    Raises `UsageError` that names the file and the key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not valid TOML: {error}") from None
    table = _Table(file, "", data, (*_FAMILY, *_TABLES))
    parent = None
    if "extends" in data:
        parent = parents.get(table.get("extends", str))
        if parent is None:
            return None
    return _family(table, parent)


def _family(table: _Table, parent: Architecture | None) -> Architecture:
    rules = tuple(_rule(entry) for entry in table.tables("tensor", _TENSOR))
    ignores = tuple(_ignore(entry) for entry in table.tables("ignore", _IGNORE))
    config = {key: table.sub("config", SIZES).strings(key) for key in table.data.get("config", {})}
    if parent is None:
        traits = _traits(table.sub("traits", ("gated", "norm", "pre_norm", "ordered")), None)
        anchor, bases = table.template("anchor"), table.strings("bases")
    else:
        traits = _traits(table.sub("traits", ("gated", "norm", "pre_norm", "ordered")), parent.traits)
        anchor = table.template("anchor") if "anchor" in table.data else parent.anchor
        bases = table.strings("bases") if "bases" in table.data else parent.bases
        rules = (*_kept(table, parent, rules), *rules)
        ignores = (*parent.ignores, *ignores)
        config = {**parent.config, **config}
    if not any(anchor in rule.names and rule.required and not rule.top for rule in rules):
        raise table.error("anchor", found=repr(anchor.text), expected="the name of a required tensor of the layers")
    needs = table.get("needs", str, parent.needs if parent else "")
    if needs and not any(rule.variant == needs for rule in rules):
        raise table.error("needs", found=repr(needs), expected="a variant of the family's tensors")
    return Architecture(
        id=table.get("id", str),
        title=table.get("title", str),
        source=table.get("source", str),
        model_types=table.strings("model_types") if "model_types" in table.data else (),
        preference=table.get("preference", int),
        bases=bases,
        needs=needs,
        anchor=anchor,
        traits=traits,
        config=config,
        rules=rules,
        ignores=ignores,
        notes=table.strings("notes") if "notes" in table.data else parent.notes if parent else (),
    )


def _kept(table: _Table, parent: Architecture, own: tuple[Rule, ...]) -> list[Rule]:
    """The parent's rules that the child neither drops nor writes anew."""
    drop = table.strings("drop") if "drop" in table.data else ()
    for wanted in drop:
        if not any(part.matches(wanted) for rule in parent.rules for part in rule.parts):
            raise table.error("drop", found=repr(wanted), expected=f"a role that {parent.id} has")
    rewritten = {(rule.parts, rule.names[0].expert >= 0) for rule in own}
    return [
        rule
        for rule in parent.rules
        if (rule.parts, rule.names[0].expert >= 0) not in rewritten
        and not any(part.matches(wanted) for part in rule.parts for wanted in drop)
    ]


def _traits(table: _Table, parent: Traits | None) -> Traits:
    base = parent or Traits(
        gated=table.get("gated", bool), norm=table.get("norm", str), pre_norm=table.get("pre_norm", bool)
    )
    changes: dict[str, Any] = {key: table.get(key, type(getattr(base, key))) for key in table.data if key != "ordered"}
    traits = replace(base, **changes, ordered={**base.ordered, **table.orders("ordered")})
    if traits.norm not in ("rms", "layer"):
        raise table.error("norm", found=repr(traits.norm), expected="'rms' or 'layer'")
    return traits


def _rule(table: _Table) -> Rule:
    axes = tuple(None if axis == FUSED else table.space("axes", axis) for axis in table.strings("axes"))
    named = [axis for axis in axes if axis is not Space.OTHER]
    if len(set(named)) < len(named):
        raise table.error(
            "axes", found="a space that stands twice", expected="each space once, so that a reader can ask for it"
        )
    if None in axes:
        parts = tuple(_part(entry, table) for entry in table.tables("fused", _FUSED_PART))
        if not parts or "role" in table.data:
            raise table.error("fused", found="an axis 'fused'", expected="a list of its parts, and no 'role' beside it")
    else:
        if "fused" in table.data:
            raise table.error("axes", found="no axis 'fused'", expected="one, because the tensor lists fused parts")
        parts = (_part(table, table),)
    return Rule(
        names=table.templates("name"),
        parts=parts,
        axes=axes,
        top=table.at_top(),
        required=table.get("required", bool, True),
        variant=table.get("variant", str, ""),
        fixed=table.get("fixed", str, ""),
        orders=table.orders("orders"),
    )


def _part(table: _Table, whole: _Table) -> Part:
    kind = table.get("role", str)
    if kind not in KINDS:
        raise table.error("role", found=repr(kind), expected=f"one of {', '.join(KINDS)}")
    part = table.get("part", str, whole.get("part", str, "weight"))
    if part not in ("weight", "bias"):
        raise table.error("part", found=repr(part), expected="'weight' or 'bias'")
    detail, shared = table.get("detail", str, ""), table.get("shared", bool, False)
    space = None if table is whole else table.space("space", table.get("space", str))
    return Part(kind, part, detail, shared, space)


def _ignore(table: _Table) -> Ignore:
    return Ignore(table.templates("name"), table.get("reason", str), table.at_top(), table.orders("orders"))


class _Table:
    """One table of a family file, with errors that say where it stands."""

    def __init__(self, file: str, place: str, data: Mapping[str, Any], known: Collection[str]) -> None:
        self.file, self.place, self.data = file, place, data
        for key in data:
            if key not in known:
                raise self.error(key, found="an unknown key", expected=f"one of {', '.join(known)}")

    def error(self, key: str, *, found: str, expected: str) -> UsageError:
        return UsageError(f"{self.file}: at {self.place}{key}: found {found}, expected {expected}")

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self.data.get(key, default)
        if type(value) is not kind:
            found = "nothing" if value is None else repr(value)
            raise self.error(key, found=found, expected=f"a {kind.__name__}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.error(key, found="nothing" if value is None else repr(value), expected="a list of strings")
        return tuple(value)

    def sub(self, key: str, known: Collection[str]) -> _Table:
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, found=repr(value), expected="a table")
        return _Table(self.file, f"{self.place}{key}.", value, known)

    def tables(self, key: str, known: Collection[str]) -> list[_Table]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, found=repr(value), expected="a list of tables")
        return [
            _Table(self.file, f"{self.place}{key}[{n}] ({item.get('name', '')}).", item, known)
            for n, item in enumerate(value)
        ]

    def template(self, key: str) -> Template:
        try:
            return template(self.get(key, str))
        except ValueError as error:
            raise self.error(key, found=str(error), expected="words joined by dots") from None

    def templates(self, key: str) -> tuple[Template, ...]:
        value = self.data.get(key)
        spellings = value if isinstance(value, list) else [value]
        return tuple(_Table(self.file, self.place, {key: item}, (key,)).template(key) for item in spellings)

    def space(self, key: str, value: str) -> Space:
        try:
            return Space(value)
        except ValueError:
            known = ", ".join(space.value for space in Space)
            raise self.error(key, found=repr(value), expected=f"one of {known}") from None

    def at_top(self) -> bool:
        at = self.get("at", str, "body")
        if at not in ("body", "top"):
            raise self.error("at", found=repr(at), expected="'body' or 'top'")
        return at == "top"

    def orders(self, key: str) -> dict[str, str]:
        """Spaces with reasons; a space may stand alone or behind the role whose axis it is."""
        reasons = (
            self.sub(key, tuple(self.data.get(key, ())))
            if isinstance(self.data.get(key, {}), dict)
            else self.sub(key, ())
        )
        for which in reasons.data:
            *role, space = which.split(" ")
            reasons.space(which, space)
            if role and (len(role) > 1 or role[0] not in KINDS):
                raise reasons.error(which, found=repr(" ".join(role)), expected="a role before the space")
        return {which: reasons.get(which, str) for which in reasons.data}
