"""A family file that does not follow the schema is refused by file and key."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from tests.roles.family_table import family_table, kept_table

from homolog.errors import UsageError
from homolog.roles import schema
from homolog.roles.architecture import load_architectures, parse_architectures
from homolog.roles.role import Space
from homolog.roles.schema import KINDS, parse_architecture

FAMILY = """
id = "tiny"
title = "Tiny"
source = "nowhere"
preference = 1
bases = ["model."]
anchor = "layers.{layer}.up.weight"

[traits]
gated = false
norm = "rms"
pre_norm = true

[[tensor]]
name = "layers.{layer}.up.weight"
role = "ffn.up"
axes = ["ffn", "residual"]
"""
FUSED = """
[[tensor]]
name = "layers.{layer}.qkv.weight"
axes = ["fused", "residual"]
fused = [{ role = "attn.q", space = "query" }, { role = "attn.k", space = "kv" }]
"""


def test_the_families_of_the_package_follow_the_schema() -> None:
    families = {family.id: family for family in load_architectures()}
    layouts = [name.removeprefix("gguf_") for name in families if name.startswith("gguf")]
    assert layouts == [
        *(
            "bert",
            "bert_gated",
            "fused_gate",
            "gated_layernorm",
            "gemma",
            "latent",
            "listed_experts",
            "llama",
            "normless",
        ),
        *(
            "parallel",
            "plain",
            "plain_offset",
            "plain_parallel",
            "plain_rms",
            "post_attention",
            "post_norm",
            "post_norm_heads",
        ),
        *("single_blocks", "two_norms", "wide_norms"),
    ]
    named = {file.stem for file in (Path(__file__).parent / "names").glob("*.json")}
    assert {name for name in families if not name.startswith("gguf")} == named
    assert len(named) >= 45
    for family in families.values():
        kinds = {part.kind for rule in family.rules for part in rule.parts}
        assert kinds <= set(KINDS)
        roles = [role for rule in family.rules if not rule.also for role in rule.gives]
        doubled = {part.kind for part, expert, stack in roles if roles.count((part, expert, stack)) > 1}
        # SCEPTR and the tutorial of torch store their embeddings under names of their own, in spaces of their own.
        assert doubled <= ({"embed.token", "embed.segment"} if family.id == "torch_transformer_encoder" else set())
        assert all(ignore.reason for ignore in family.ignores)


def test_a_child_keeps_replaces_and_drops() -> None:
    families = {family.id: family for family in load_architectures()}

    def biases(family: str) -> dict[str, bool]:
        rules = families[family].rules
        return {part.kind: rule.required for rule in rules for part in rule.parts if part.matches(f"{part.kind} bias")}

    assert biases("llama")["attn.q"] is False
    assert biases("qwen2")["attn.q"] is True
    assert "attn.o" not in biases("qwen2")
    assert "attn.q" not in biases("mistral")
    assert families["mistral"].traits == families["llama"].traits
    assert families["qwen2_moe"].config["layers"][0] == "num_hidden_layers"
    assert families["qwen2_moe"].config["experts"][0] == "num_experts"


def test_a_whole_family_is_read() -> None:
    family = parse_architecture("tiny.toml", FAMILY + FUSED, {})
    assert family is not None
    assert (family.id, family.model_types, family.needs, family.notes) == ("tiny", (), "", ())
    fused = family.rules[1]
    assert (fused.axes, fused.fused_axis) == ((None, Space.RESIDUAL), 0)
    assert [(part.kind, part.space) for part in fused.parts] == [("attn.q", Space.QUERY), ("attn.k", Space.KV)]


def test_a_family_waits_for_the_one_that_it_extends() -> None:
    child = 'id = "b"\nextends = "tiny"\ntitle = "B"\nsource = "x"\npreference = 2\n'
    assert parse_architecture("b.toml", child, {}) is None
    tiny = parse_architecture("tiny.toml", FAMILY, {})
    assert tiny is not None
    family = parse_architecture("b.toml", child, {"tiny": tiny})
    assert family is not None
    assert family.rules == tiny.rules


REPLACED = {
    "an unknown key": ("preference = 1", "preference = 1\ncolour = 3", r"tiny\.toml: at colour: found an unknown key"),
    "an unknown key of a tensor": (
        "role =",
        "rool = 1\nrole =",
        r"at tensor\[0\] \(layers\.\{layer\}\.up\.weight\)\.rool",
    ),
    "an unknown key of the traits": (
        "gated = false",
        "gated = false\nmoe = true",
        r"at traits\.moe: found an unknown key",
    ),
    "a missing key": ('title = "Tiny"', "", r"at title: found nothing, expected a string"),
    "a wrong type": ("preference = 1", 'preference = "1"', r"at preference: found '1', expected a whole number"),
    "no TOML": ("preference = 1", "preference 1", r"tiny\.toml: not valid TOML"),
    "an unknown role": ('"ffn.up"', '"ffn.upp"', r"role: found 'ffn\.upp', expected one of embed\.token"),
    "an unknown space": ('"ffn", "residual"', '"fnf", "residual"', r"axes: found 'fnf', expected one of residual"),
    "a space twice": ('"ffn", "residual"', '"ffn", "ffn"', r"axes: found a space that stands twice"),
    "an unknown place": ("role =", 'at = "left"\nrole =', r"at: found 'left', expected 'body' or 'top'"),
    "an unknown part": ("role =", 'part = "gain"\nrole =', r"part: found 'gain', expected 'weight' or 'bias'"),
    "an unknown norm": ('"rms"', '"batch"', r"traits\.norm: found 'batch', expected 'rms' or 'layer'"),
    "an unknown placeholder": ("layers.{layer}.up", "layers.{block}.up", r"'\{block\}' is neither a word nor one of"),
    "an anchor that no tensor has": (
        'anchor = "layers.{layer}.up',
        'anchor = "layers.{layer}.down',
        r"at anchor: found .*, expected the name of a required tensor",
    ),
    "a need that no tensor meets": (
        "preference = 1",
        'preference = 1\nneeds = "mixture"',
        r"at needs: found 'mixture'",
    ),
    "a role beside fused parts": (
        "axes = [",
        'fused = [{ role = "attn.q", space = "kv" }]\naxes = [',
        r"found no axis 'fused'",
    ),
    "a fused axis without parts": ('"ffn", "residual"', '"fused", "residual"', r"fused: found an axis 'fused'"),
    "an unknown size": ("[traits]", '[config]\nwidht = ["n"]\n[traits]', r"config\.widht: found an unknown key"),
    "an unknown order": (
        "role =",
        'order = "zigzag"\nrole =',
        r"order: found 'zigzag', expected one of equal, measured, heads, alternating",
    ),
    "an order without a fused axis": ("role =", 'order = "heads"\nrole =', r"order: found 'heads', .* of a fused axis"),
    "an unknown kind of bias": ("role =", 'bias = "always"\nrole =', r"bias: found 'always', expected 'none', 'may'"),
    "a bias beside what is no weight": (
        'up.weight"\nrole =',
        'up"\nbias = "may"\nrole =',
        r"bias: found layers\.\{layer\}\.up, expected names of weights",
    ),
    "too many axes": (
        '"ffn", "residual"',
        '"ffn", "residual", "head"',
        r"axes: found 3 axes, expected one or two behind 'stacked' and 'single'",
    ),
    "only leading axes": ('"ffn", "residual"', '"stacked"', r"axes: found 0 axes"),
    "an order of an unknown space": ("role =", 'orders = { side = "why" }\nrole =', r"orders\.side: found 'side'"),
    "an order of an unknown role": (
        "role =",
        'orders = { "attn.z kv" = "why" }\nrole =',
        r"found 'attn\.z', expected a role",
    ),
    "an order that is no table": ("role =", 'orders = "why"\nrole =', r"orders: found 'why', expected a table"),
    "a list that is no list": (
        'bases = ["model."]',
        'bases = "model."',
        r"bases: found 'model\.', expected a list of strings",
    ),
    "tensors that are no tables": ("[[tensor]]", "[tensor]", r"tensor: found .*, expected a list of tables"),
}


@pytest.mark.parametrize("kind", REPLACED)
def test_an_error_names_the_file_and_the_key(kind: str) -> None:
    old, new, words = REPLACED[kind]
    assert old in FAMILY
    with pytest.raises(UsageError, match=words) as caught:
        parse_architecture("tiny.toml", FAMILY.replace(old, new, 1), {})
    assert str(caught.value).startswith("tiny.toml: ")


def test_a_child_may_only_drop_what_there_is() -> None:
    tiny = parse_architecture("tiny.toml", FAMILY, {})
    assert tiny is not None
    child = 'id = "b"\nextends = "tiny"\ntitle = "B"\nsource = "x"\npreference = 2\ndrop = ["ffn.gate"]\n'
    with pytest.raises(UsageError, match=r"b\.toml: at drop: found 'ffn\.gate', expected a role that tiny has"):
        parse_architecture("b.toml", child, {"tiny": tiny})


def test_every_key_of_the_schema_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-a-family.md").read_text("utf-8")
    keys = {*schema.FAMILY_KEYS, *schema.TRAIT_KEYS, *schema.TENSOR_KEYS, *schema.FUSED_KEYS, *schema.IGNORE_KEYS}
    assert not [key for key in sorted(keys | set(schema.SIZES)) if f"`{key}`" not in page]


def test_every_family_is_documented() -> None:
    assert kept_table() == family_table(), "run python -m tests.roles.family_table"


def test_a_family_costs_a_short_file() -> None:
    files = (Path(__file__).parents[2] / "src" / "homolog" / "roles" / "architectures").glob("*.toml")
    lengths = [len(text.splitlines()) for file in files if "abstract = true" not in (text := file.read_text("utf-8"))]
    assert median(lengths) <= 40


def test_the_documented_family_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-a-family.md").read_text("utf-8")
    text = page.split("```toml\n")[1].split("```")[0]
    family = parse_architecture("tiny.toml", text, {})
    assert family is not None
    assert (family.id, len(family.rules), len(family.ignores)) == ("tiny", 3, 1)


def test_families_may_extend_each_other_in_any_order() -> None:
    child = 'title = "x"\nsource = "x"\npreference = 2\n'
    texts = {
        "a.toml": f'id = "a"\nextends = "b"\n{child}',
        "b.toml": f'id = "b"\nextends = "tiny"\n{child}',
        "tiny.toml": FAMILY,
    }
    assert [family.id for family in parse_architectures(texts)] == ["a", "b", "tiny"]
    with pytest.raises(
        UsageError, match=r"a\.toml: at extends: found a family that no file defines, expected one of none"
    ):
        parse_architectures({"a.toml": texts["a.toml"], "b.toml": texts["b.toml"]})
    with pytest.raises(UsageError, match=r"z\.toml: at id: found 'tiny' a second time"):
        parse_architectures({"tiny.toml": FAMILY, "z.toml": FAMILY})
