"""The schema of a family file: which keys there are, what they may hold, and an error that names file and key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from homolog.errors import UsageError
from homolog.roles.names import template
from homolog.roles.role import Space, Traits
from homolog.roles.rules import Architecture, Ignore, Part, Rule
from homolog.roles.tables import Table

__all__ = ["KINDS", "SIZES", "parse_architecture"]

KINDS = (
    *("embed.token", "embed.position", "embed.segment", "embed.project", "embed.class", "unembed"),
    *("norm.embed", "norm.attn", "norm.attn_inner", "norm.attn_post", "norm.ffn", "norm.ffn_inner", "norm.ffn_post"),
    *("norm.final", "norm.q", "norm.k", "norm.q_a", "norm.kv_a", "norm.cross"),
    *("attn.q", "attn.k", "attn.v", "attn.o", "attn.q_a", "attn.kv_a", "attn.k_rotary", "attn.sink", "attn.relative"),
    *("cross.q", "cross.k", "cross.v", "cross.o"),
    *("ffn.gate", "ffn.up", "ffn.down", "ffn.router", "ffn.router_scale", "ffn.shared_gate", "head"),
)
SIZES = (
    *("layers", "width", "ffn", "vocab", "heads", "kv_heads", "head_dim"),
    *("experts", "expert_ffn", "shared_ffn", "positions", "segments"),
)
_NOWHERE = template("nowhere.{layer}")
FUSED, LEADING = "fused", ("stacked", "single")
ORDERS = ("equal", "measured", "heads", "alternating")

FAMILY_KEYS = (
    "id",
    "abstract",
    "extends",
    "title",
    "source",
    "model_types",
    "preference",
    "bases",
    "anchor",
    "needs",
    "notes",
    "drop",
)
TABLES = ("traits", "config", "tensor", "ignore")
TENSOR_KEYS = (
    *("name", "at", "role", "part", "detail", "shared", "axes", "fused"),
    *("order", "flat", "bias", "required", "also", "variant", "stack", "fixed", "orders"),
)
FUSED_KEYS = ("role", "part", "detail", "shared", "space")
TRAIT_KEYS = ("gated", "norm", "pre_norm", "parallel", "norm_offset", "ordered")
IGNORE_KEYS = ("name", "at", "reason", "orders")


def parse_architecture(file: str, text: str, parents: Mapping[str, Architecture]) -> Architecture | None:
    """One family file; ``None`` if the family that it extends is not among ``parents`` yet.

    Raises `UsageError` that names the file and the key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not valid TOML: {error}") from None
    table = Table(file, "", data, (*FAMILY_KEYS, *TABLES))
    parent = None
    if "extends" in data:
        parent = parents.get(table.get("extends", str))
        if parent is None:
            return None
    return _family(table, parent)


def _family(table: Table, parent: Architecture | None) -> Architecture:
    rules = tuple(rule for entry in table.tables("tensor", TENSOR_KEYS) for rule in _rules(entry))
    abstract = table.get("abstract", bool, False)
    ignores = tuple(_ignore(entry) for entry in table.tables("ignore", IGNORE_KEYS))
    stated = table.sub("config", SIZES)
    config = {key: stated.strings(key) if value else () for key, value in stated.data.items()}
    if parent is None:
        traits = _traits(table.sub("traits", TRAIT_KEYS), None)
        anchor = _NOWHERE if abstract and "anchor" not in table.data else table.template("anchor")
        bases = ("",) if abstract and "bases" not in table.data else table.strings("bases")
    else:
        traits = _traits(table.sub("traits", TRAIT_KEYS), parent.traits)
        anchor = table.template("anchor") if "anchor" in table.data else parent.anchor
        bases = table.strings("bases") if "bases" in table.data else parent.bases
        rules = (*_kept(table, parent, rules), *rules)
        ignores = (*parent.ignores, *ignores)
        config = {**parent.config, **config}
    if not abstract and not any(anchor in rule.names and rule.required and not rule.top for rule in rules):
        raise table.error("anchor", found=repr(anchor.text), expected="the name of a required tensor of the layers")
    needs = table.get("needs", str, parent.needs if parent else "")
    if not abstract and needs and not any(rule.variant == needs for rule in rules):
        raise table.error("needs", found=repr(needs), expected="a variant of the family's tensors")
    return Architecture(
        id=table.get("id", str),
        title=table.get("title", str),
        source=table.get("source", str),
        model_types=table.strings("model_types") if "model_types" in table.data else (),
        preference=table.get("preference", int, 0 if abstract else None),
        bases=bases,
        needs=needs,
        anchor=anchor,
        traits=traits,
        config=config,
        rules=rules,
        ignores=ignores,
        notes=table.strings("notes") if "notes" in table.data else parent.notes if parent else (),
        abstract=abstract,
    )


def _kept(table: Table, parent: Architecture, own: tuple[Rule, ...]) -> list[Rule]:
    """The parent's rules that the child neither drops nor writes anew; other ways to store a role outlive its first one."""
    drop = table.strings("drop") if "drop" in table.data else ()
    for wanted in drop:
        if not any(part.matches(wanted) for rule in parent.rules for part in rule.parts):
            raise table.error("drop", found=repr(wanted), expected=f"a role that {parent.id} has")
    rewritten = {role for rule in own if not rule.also for role in rule.gives}
    renamed = {name.text for rule in own for name in rule.names}
    return [
        rule
        for rule in parent.rules
        if (rule.also or not rule.gives & rewritten)
        and not (rule.also and any(name.text in renamed for name in rule.names))
        and not any(part.matches(wanted) for part in rule.parts for wanted in drop)
    ]


def _traits(table: Table, parent: Traits | None) -> Traits:
    base = parent or Traits(
        gated=table.get("gated", bool), norm=table.get("norm", str), pre_norm=table.get("pre_norm", bool)
    )
    changes: dict[str, Any] = {key: table.get(key, type(getattr(base, key))) for key in table.data if key != "ordered"}
    traits = replace(base, **changes, ordered={**base.ordered, **_orders(table, "ordered")})
    if traits.norm not in ("rms", "layer"):
        raise table.error("norm", found=repr(traits.norm), expected="'rms' or 'layer'")
    return traits


def _rules(table: Table) -> list[Rule]:
    """The rule of one table, and the one of the bias beside it."""
    rule = _rule(table)
    bias = table.get("bias", str, "none")
    if bias not in ("none", "may", "must"):
        raise table.error("bias", found=repr(bias), expected="'none', 'may' or 'must'")
    if bias == "none":
        return [rule]
    names = [name.text.removesuffix(".weight") for name in rule.names if name.text.endswith(".weight")]
    if len(names) < len(rule.names) or any(part.part == "bias" for part in rule.parts):
        raise table.error("bias", found=rule.names[0].text, expected="names of weights, that end in '.weight'")
    return [
        rule,
        replace(
            rule,
            names=tuple(template(f"{name}.bias") for name in names),
            parts=tuple(replace(part, part="bias") for part in rule.parts),
            axes=rule.axes[:1],
            flat=False,
            required=rule.required and bias == "must",
        ),
    ]


def _rule(table: Table) -> Rule:
    leading, axes = _axes(table)
    if None in axes:
        parts = tuple(_part(entry, table) for entry in table.tables("fused", FUSED_KEYS))
        if not parts or "role" in table.data:
            raise table.error("fused", found="an axis 'fused'", expected="a list of its parts, and no 'role' beside it")
    else:
        if "fused" in table.data:
            raise table.error("axes", found="no axis 'fused'", expected="one, because the tensor lists fused parts")
        parts = (_part(table, table),)
    order = table.get("order", str, "equal")
    if order not in ORDERS or (order != "equal" and None not in axes):
        raise table.error("order", found=repr(order), expected=f"one of {', '.join(ORDERS)}, of a fused axis")
    also = table.get("also", bool, False)
    return Rule(
        names=table.templates("name"),
        parts=parts,
        axes=axes,
        leading=leading,
        flat=table.get("flat", bool, False),
        order=order,
        top=_at_top(table),
        required=table.get("required", bool, not also),
        also=also,
        variant=table.get("variant", str, ""),
        stack=table.get("stack", str, ""),
        fixed=table.get("fixed", str, ""),
        orders=_orders(table, "orders"),
    )


def _axes(table: Table) -> tuple[tuple[str, ...], tuple[Space | None, ...]]:
    """The leading axes and the others."""
    words = table.strings("axes")
    leading = tuple(takewhile(LEADING.__contains__, words))
    axes = tuple(None if axis == FUSED else table.space("axes", axis) for axis in words[len(leading) :])
    named = [axis for axis in axes if axis is not Space.OTHER]
    if len(set(named)) < len(named):
        raise table.error(
            "axes", found="a space that stands twice", expected="each space once, so that a reader can ask for it"
        )
    if not 1 <= len(axes) <= 2:
        raise table.error("axes", found=f"{len(axes)} axes", expected="one or two behind 'stacked' and 'single'")
    return leading, axes


def _part(table: Table, whole: Table) -> Part:
    kind = table.get("role", str)
    if kind not in KINDS:
        raise table.error("role", found=repr(kind), expected=f"one of {', '.join(KINDS)}")
    part = table.get("part", str, whole.get("part", str, "weight"))
    if part not in ("weight", "bias"):
        raise table.error("part", found=repr(part), expected="'weight' or 'bias'")
    detail, shared = table.get("detail", str, ""), table.get("shared", bool, False)
    space = None if table is whole else table.space("space", table.get("space", str))
    return Part(kind, part, detail, shared, space)


def _ignore(table: Table) -> Ignore:
    names = [name] if isinstance(name := table.data.get("name"), str) else table.strings("name")
    below = tuple(name.removesuffix("*") for name in names if name.endswith(".*"))
    exact = Table(table.file, table.place, {"name": [name for name in names if not name.endswith(".*")]}, ("name",))
    return Ignore(exact.templates("name"), table.get("reason", str), _at_top(table), _orders(table, "orders"), below)


def _at_top(table: Table) -> bool:
    at = table.get("at", str, "body")
    if at not in ("body", "top"):
        raise table.error("at", found=repr(at), expected="'body' or 'top'")
    return at == "top"


def _orders(table: Table, key: str) -> dict[str, str]:
    """Spaces with reasons; a space may stand alone or behind the role whose axis it is."""
    given = table.data.get(key, {})
    reasons = table.sub(key, tuple(given) if isinstance(given, dict) else ())
    for which in reasons.data:
        *role, space = which.split(" ")
        reasons.space(which, space)
        if role and (len(role) > 1 or role[0] not in KINDS):
            raise reasons.error(which, found=repr(" ".join(role)), expected="a role before the space")
    return {which: reasons.get(which, str) for which in reasons.data}
