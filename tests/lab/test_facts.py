"""What an operation says it did is what it did: the facts of a truth record, read back from the weights. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from homolog.errors import UsageError
from homolog.lab.operations import Outcome, apply_operation
from homolog.lab.shape import Shape, Weights, initialise, list_tensors

LLAMA = Shape(vocab=40, width=24, layers=2, ffn=24, heads=6, kv_heads=2)
QWEN = replace(LLAMA, family="qwen2", tied=True)
MOE = replace(LLAMA, family="qwen2_moe", experts=4, shared_ffn=16)
GROUPED = replace(LLAMA, family="pangu_pro_moe", experts=4, shared_ffn=16, groups=2)
GPT2 = Shape(family="gpt2", vocab=40, width=24, layers=2, ffn=24, heads=4, kv_heads=4, tied=True)


def make(shape: Shape) -> Weights:
    rng = np.random.default_rng(5)
    return {
        name: w + 0.3 * rng.standard_normal(w.shape).astype(np.float32)
        for name, w in initialise(shape, seed=3, std=0.2).items()
    }


def do(shape: Shape, kind: str, **arguments: Any) -> tuple[Weights, Outcome, dict[str, Any]]:
    before = make(shape)
    outcome = apply_operation(shape, before, {"kind": kind, **arguments})
    assert {name: w.shape for name, w in outcome.weights.items()} == list_tensors(outcome.shape)
    return before, outcome, outcome.facts or {}


def test_new_units_lie_where_the_facts_say() -> None:
    for shape, up in ((LLAMA, "model.layers.1.mlp.up_proj.weight"), (GPT2, "transformer.h.1.mlp.c_fc.weight")):
        before, outcome, facts = do(shape, "widen_ffn", units=8, interleave=True, seed=1)
        axis = 0 if shape is LLAMA else 1
        assert np.array_equal(np.delete(outcome.weights[up], facts["new_units"], axis=axis), before[up])
        assert len(facts["new_units"]) == 8
        assert {name for name in outcome.weights if ".mlp." in name and "c_proj.bias" not in name} == outcome.fresh


def test_kept_units_are_those_of_the_facts() -> None:
    before, outcome, facts = do(GPT2, "prune_ffn", units=10)
    for layer, kept in enumerate(facts["kept_units"]):
        place = f"transformer.h.{layer}.mlp"
        for name, axis in ((f"{place}.c_fc.weight", 1), (f"{place}.c_fc.bias", 0), (f"{place}.c_proj.weight", 0)):
            assert np.array_equal(outcome.weights[name], np.take(before[name], kept, axis=axis))
        importance = np.linalg.norm(before[f"{place}.c_fc.weight"], axis=0) * np.linalg.norm(
            before[f"{place}.c_proj.weight"], axis=1
        )
        assert set(kept) == set(np.argsort(-importance)[:10])


@pytest.mark.parametrize("shape", [LLAMA, QWEN, GROUPED], ids=lambda shape: shape.family)
@pytest.mark.parametrize(("kind", "arguments"), [("prune_heads", {"groups": 1}), ("permute_heads", {"seed": 1})])
def test_heads_are_those_of_the_facts(shape: Shape, kind: str, arguments: dict[str, int]) -> None:
    before, outcome, facts = do(shape, kind, **arguments)
    size = shape.head_dim
    for layer, heads in enumerate(facts["heads"]):
        place = f"model.layers.{layer}.self_attn"
        assert len(heads) == outcome.shape.heads
        for new, old in enumerate(heads):
            rows, was = slice(new * size, (new + 1) * size), slice(old * size, (old + 1) * size)
            assert np.array_equal(
                outcome.weights[f"{place}.q_proj.weight"][rows], before[f"{place}.q_proj.weight"][was]
            )
            assert np.array_equal(
                outcome.weights[f"{place}.o_proj.weight"][:, rows], before[f"{place}.o_proj.weight"][:, was]
            )


@pytest.mark.parametrize("shape", [LLAMA, QWEN, GROUPED], ids=lambda shape: shape.family)
def test_kept_channels_are_those_of_the_facts_and_the_heads_stay(shape: Shape) -> None:
    before, outcome, facts = do(shape, "prune_residual", channels=16)
    kept = facts["kept_channels"]
    assert (outcome.shape.width, outcome.shape.heads, outcome.shape.head_dim) == (16, shape.heads, shape.head_dim)
    place = "model.layers.1.self_attn"
    for name, axis in (("model.embed_tokens", 1), (f"{place}.q_proj", 1), (f"{place}.o_proj", 0), ("model.norm", 0)):
        expected = np.take(before[f"{name}.weight"], kept, axis=axis)
        assert np.array_equal(outcome.weights[f"{name}.weight"], expected)


def test_a_channel_that_nothing_reads_or_writes_is_pruned_first() -> None:
    weights = make(LLAMA)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name][:, [3, 11]] *= 1e-3
    for layer in range(2):
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
            weights[f"model.layers.{layer}.{name}.weight"][:, [3, 11]] *= 1e-3
    outcome = apply_operation(LLAMA, weights, {"kind": "prune_residual", "channels": 22})
    assert outcome.facts == {"kept_channels": [i for i in range(24) if i not in (3, 11)]}


def test_new_channels_lie_where_the_facts_say() -> None:
    before, outcome, facts = do(LLAMA, "widen_residual", channels=5, seed=1)
    for name, axis in (("model.embed_tokens.weight", 1), ("model.layers.0.mlp.down_proj.weight", 0)):
        assert np.array_equal(np.delete(outcome.weights[name], facts["new_channels"], axis=axis), before[name])
        assert not np.take(outcome.weights[name], facts["new_channels"], axis=axis).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "partitions", "shared": 8},
        {"mode": "partitions", "shared": 8, "family": "pangu_pro_moe", "groups": 2},
        {"mode": "partitions"},
        {"mode": "subsets", "units": 9},
        {"mode": "subsets", "units": 8, "drop": 0.5, "shared": 4},
        {"mode": "copies", "drop": 0.25},
    ],
    ids=str,
)
def test_an_expert_is_made_of_the_units_in_the_facts(arguments: dict[str, Any]) -> None:
    before, outcome, facts = do(QWEN, "upcycle", experts=4, chosen=2, seed=1, **arguments)
    for layer, experts in enumerate(facts["units"]):
        place = f"model.layers.{layer}.mlp"
        names = [*(f"experts.{expert}" for expert in range(4)), "shared_expert"]
        for name, units in zip(names, map(np.array, experts), strict=True):
            old = units >= 0
            up = outcome.weights[f"{place}.{name}.up_proj.weight"]
            assert np.array_equal(up[old], before[f"{place}.up_proj.weight"][units[old]])
            down = outcome.weights[f"{place}.{name}.down_proj.weight"][:, old]
            factor = down / before[f"{place}.down_proj.weight"][:, units[old]]
            np.testing.assert_allclose(factor, factor.mean(), rtol=1e-5)
        routed = np.concatenate(experts[:4])
        if arguments["mode"] == "partitions":
            assert sorted(routed.tolist() + (experts[4] if arguments.get("shared") else [])) == list(range(24))
        assert (routed < 0).sum() == 4 * round(arguments.get("drop", 0) * outcome.shape.ffn)


def test_copies_with_noise_have_the_noise_that_was_asked_for() -> None:
    before, outcome, facts = do(QWEN, "upcycle", experts=4, chosen=2, noise=0.2, seed=1)
    assert facts == {"experts": 4, "noise": 0.2}
    source = before["model.layers.0.mlp.up_proj.weight"]
    change = outcome.weights["model.layers.0.mlp.experts.2.up_proj.weight"] - source
    assert change.std() / source.std() == pytest.approx(0.2, rel=0.1)
    shared = outcome.weights["model.layers.0.mlp.shared_expert.up_proj.weight"]
    assert np.array_equal(shared, source)


@pytest.mark.parametrize("shape", [MOE, GROUPED], ids=lambda shape: shape.family)
@pytest.mark.parametrize("copied", [False, True])
def test_old_experts_stay_and_new_ones_are_fresh(shape: Shape, copied: bool) -> None:
    before, outcome, facts = do(shape, "grow_experts", experts=4, copied=copied, seed=1)
    sources = facts["experts"]
    assert [source for source in sources if source is not None] == list(range(4))
    if shape.groups:
        assert sources == [0, 1, None, None, 2, 3, None, None]
    for expert, source in enumerate(sources):
        name = f"model.layers.1.mlp.experts.{expert}.down_proj.weight"
        assert (name in outcome.fresh) == (source is None)
        if source is not None:
            old = f"model.layers.1.mlp.experts.{source}.down_proj.weight"
            assert np.array_equal(outcome.weights[name], before[old])
        else:
            assert bool(outcome.weights[name].any()) == copied
    assert "model.layers.0.mlp.gate.weight" in outcome.fresh


def test_what_is_not_fresh_came_from_the_parent_as_a_whole() -> None:
    cases: list[tuple[Shape, str, dict[str, Any]]] = [
        (LLAMA, "add_norms", {}),
        (LLAMA, "reset_embeddings", {"seed": 1}),
        (LLAMA, "swap_vocabulary", {"tokens": 30, "seed": 1}),
        (GPT2, "extend_vocabulary", {"tokens": 8, "seed": 1}),
        (LLAMA, "widen_residual", {"channels": 4, "seed": 1}),
        (GROUPED, "grow_experts", {"experts": 2, "seed": 1}),
    ]
    for shape, kind, arguments in cases:
        before, outcome, _ = do(shape, kind, **arguments)
        values = {tensor.tobytes() for tensor in before.values()}
        inherited = outcome.weights.keys() - outcome.fresh
        assert all(outcome.weights[name].tobytes() in values for name in inherited), kind
        assert outcome.fresh, kind


def test_sandwich_norms_keep_the_norm_before_the_ffn_under_its_new_name() -> None:
    before, outcome, facts = do(LLAMA, "add_norms")
    place = "model.layers.1."
    pre = outcome.weights[f"{place}pre_mlp_layernorm.weight"]
    assert np.array_equal(pre, before[f"{place}post_attention_layernorm.weight"])
    assert (outcome.weights[f"{place}post_mlp_layernorm.weight"] == np.float32(0.5)).all()
    assert facts == {"norms": "sandwich", "gain": 0.5}


@pytest.mark.parametrize("shape", [MOE, GROUPED], ids=lambda shape: shape.family)
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_regrouped_experts_hold_the_lots_of_the_facts_and_every_unit_once(shape: Shape, parts: int) -> None:
    before, outcome, facts = do(shape, "regroup_experts", parts=parts, seed=1)
    for layer, experts in enumerate(facts["parts"]):
        place = f"model.layers.{layer}.mlp"
        for new, lots in enumerate(experts):
            assert len({old for old, _ in lots}) == parts
            for kind, axis in (("gate", 0), ("up", 0), ("down", 1)):
                old = [
                    np.take(before[f"{place}.experts.{e}.{kind}_proj.weight"], units, axis=axis) for e, units in lots
                ]
                made = outcome.weights[f"{place}.experts.{new}.{kind}_proj.weight"]
                assert np.array_equal(made, np.concatenate(old, axis=axis))
            rows = before[f"{place}.gate.weight"][[e for e, _ in lots]]
            np.testing.assert_allclose(outcome.weights[f"{place}.gate.weight"][new], rows.mean(axis=0), rtol=1e-6)
        dealt = sorted((e, unit) for lots in experts for e, units in lots for unit in units)
        assert dealt == [(e, unit) for e in range(shape.experts) for unit in range(shape.ffn)]


@pytest.mark.parametrize("parts", [1, 5])
def test_experts_are_not_regrouped_into_parts_that_cannot_be(parts: int) -> None:
    with pytest.raises(UsageError, match=f"parts {parts} of 4 experts"):
        do(MOE, "regroup_experts", parts=parts, seed=1)
