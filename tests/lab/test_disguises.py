"""Disguises keep what a model computes, and change what they are meant to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.naive.decoder_forward import naive_logits

from homolog.errors import UsageError
from homolog.lab import decoys, disguises, quantise, widening
from homolog.lab.operations import OPERATIONS, apply_operation
from homolog.lab.registry import is_defined
from homolog.lab.shape import Shape, Weights, initialise, list_tensors

LLAMA = Shape(vocab=40, width=24, layers=2, ffn=20, heads=6, kv_heads=2)
QWEN = replace(LLAMA, family="qwen2", tied=True)
MOE = replace(LLAMA, family="qwen2_moe", experts=4, ffn=12, shared_ffn=16)
QWEN3 = replace(LLAMA, family="qwen3")
GROUPED = replace(LLAMA, family="pangu_pro_moe", experts=4, ffn=12, shared_ffn=16, groups=2)
SANDWICH = replace(LLAMA, family="pangu")
GPT2 = replace(LLAMA, family="gpt2", kv_heads=6)
SHAPES = (LLAMA, QWEN, QWEN3, SANDWICH, MOE, GROUPED, GPT2)
IDS = [7, 3, 30, 3, 11, 25]
UNUSED = [0, 1, 39]

STEPS: dict[str, dict[str, Any]] = {
    "permute_units": {"seed": 1},
    "sort_units": {},
    "permute_heads": {"seed": 1},
    "permute_experts": {"seed": 1},
    "permute_residual": {"seed": 1},
    "flip_signs": {"seed": 1},
    "fold_norms": {},
    "rotate_residual": {"seed": 1},
    "rescale": {"seed": 1},
    "mix_values": {"seed": 1},
    "overwrite_rows": {"rows": UNUSED, "seed": 1},
    "split_units": {"share": 0.7, "seed": 1},
    "pad_residual": {"seed": 1},
    "flip_gates": {"share": 0.7, "seed": 1},
    "add_decoys": {"pairs": 5, "length": 2.0, "seed": 1},
    "bury_units": {"groups": 2, "noise": 10.0, "seed": 1},
}
DENSE = ("llama", "qwen2", "qwen3", "pangu")
NOT_FOR = {
    *(("permute_experts", family) for family in DENSE),
    *(
        (kind, family)
        for kind in ("split_units", "flip_gates", "add_decoys", "bury_units")
        for family in ("qwen2_moe", "pangu_pro_moe")
    ),
    ("rotate_residual", "pangu"),
    *((kind, "gpt2") for kind in ("permute_experts", "split_units", "flip_signs", "fold_norms", "rotate_residual")),
    *((kind, "gpt2") for kind in ("pad_residual", "flip_gates", "add_decoys", "bury_units")),
}
CASES = [(shape, kind) for shape in SHAPES for kind in STEPS if (kind, shape.family) not in NOT_FOR]


def make(shape: Shape) -> Weights:
    """Weights, biases and gains all large enough that none can be lost unseen."""
    rng = np.random.default_rng(5)
    return {
        name: w + 0.3 * rng.standard_normal(w.shape).astype(np.float32)
        for name, w in initialise(shape, seed=3, std=0.2).items()
    }


@pytest.mark.parametrize(("shape", "kind"), CASES, ids=lambda value: getattr(value, "family", value))
def test_a_disguise_keeps_the_function(shape: Shape, kind: str) -> None:
    weights = make(shape)
    kept = {name: tensor.copy() for name, tensor in weights.items()}
    outcome = apply_operation(shape, weights, {"kind": kind, **STEPS[kind]})
    assert {name: tensor.shape for name, tensor in outcome.weights.items()} == list_tensors(outcome.shape)
    assert all((weights[name] == kept[name]).all() for name in kept), "the input was changed in place"
    assert any(
        name not in weights or not np.array_equal(tensor, weights[name]) for name, tensor in outcome.weights.items()
    )
    seen = [token for token in range(shape.vocab) if token not in UNUSED]
    before = naive_logits(shape, weights, IDS)[:, seen]
    after = naive_logits(outcome.shape, outcome.weights, IDS)[:, seen]
    assert np.linalg.norm(after - before) < 1e-3 * np.linalg.norm(before)


def test_disguises_compose() -> None:
    shape, weights = QWEN, make(QWEN)
    for kind in (
        "split_units",
        "permute_units",
        "permute_heads",
        "mix_values",
        "rescale",
        "pad_residual",
        "rotate_residual",
    ):
        outcome = apply_operation(shape, weights, {"kind": kind, "seed": 2})
        shape, weights = outcome.shape, outcome.weights
    before, after = naive_logits(QWEN, make(QWEN), IDS), naive_logits(shape, weights, IDS)
    assert np.linalg.norm(after - before) < 1e-3 * np.linalg.norm(before)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    weights = make(LLAMA)
    for kind in (kind for kind, step in STEPS.items() if "seed" in step and kind != "permute_experts"):
        first, again, other = (
            apply_operation(LLAMA, weights, {"kind": kind, **STEPS[kind], "seed": seed}).weights for seed in (1, 1, 2)
        )
        assert all((first[name] == again[name]).all() for name in first)
        assert any((first[name] != other[name]).any() for name in first)


def test_a_rotation_leaves_no_channel_where_it_was_and_mixes_no_unit() -> None:
    weights = make(LLAMA)
    turned = apply_operation(LLAMA, weights, {"kind": "rotate_residual", "seed": 1}).weights
    up = weights["model.layers.0.mlp.up_proj.weight"] * weights["model.layers.0.post_attention_layernorm.weight"]
    np.testing.assert_allclose(
        turned["model.layers.0.mlp.up_proj.weight"] @ turned["model.layers.0.mlp.up_proj.weight"].T,
        up @ up.T,
        rtol=1e-3,
        atol=1e-4,
    )
    assert np.abs(turned["model.layers.0.mlp.up_proj.weight"] - up).mean() > 0.1


def test_split_units_share_a_gate_and_add_up() -> None:
    weights = make(LLAMA)
    split = apply_operation(LLAMA, weights, {"kind": "split_units", "seed": 1}).weights
    place = "model.layers.1.mlp."
    gate, up, down = (split[f"{place}{name}_proj.weight"] for name in ("gate", "up", "down"))
    assert len(gate) == 2 * LLAMA.ffn
    for unit in range(LLAMA.ffn):
        group = np.flatnonzero((gate == weights[f"{place}gate_proj.weight"][unit]).all(axis=1))
        assert len(group) == 2
        whole = np.outer(weights[f"{place}down_proj.weight"][:, unit], weights[f"{place}up_proj.weight"][unit])
        np.testing.assert_allclose(down[:, group] @ up[group], whole, atol=1e-5)


def test_decoys_hide_what_they_are_meant_to_hide() -> None:
    weights, place = make(LLAMA), "model.layers.1.mlp."
    longest = np.linalg.norm(weights[f"{place}gate_proj.weight"], axis=1).max()
    drowned = apply_operation(LLAMA, weights, {"kind": "add_decoys", "pairs": 5, "length": 2.0, "seed": 1}).weights
    sizes = np.linalg.norm(drowned[f"{place}gate_proj.weight"], axis=1)
    np.testing.assert_allclose(sizes[LLAMA.ffn :], 2 * longest, rtol=1e-5)
    buried = apply_operation(LLAMA, weights, {"kind": "bury_units", "groups": 2, "noise": 10.0, "seed": 1})
    down = buried.weights[f"{place}down_proj.weight"]
    assert np.linalg.matrix_rank(down) == min(down.shape), "the dead channels show"
    flipped = apply_operation(LLAMA, weights, {"kind": "flip_gates", "seed": 1}).weights
    np.testing.assert_array_equal(
        flipped[f"{place}gate_proj.weight"][: LLAMA.ffn], -weights[f"{place}gate_proj.weight"]
    )


def test_renaming_drops_the_prefix_alone() -> None:
    weights = make(LLAMA)
    renamed = apply_operation(LLAMA, weights, {"kind": "rename"}).weights
    assert {f"model.{name}" if name != "lm_head.weight" else name for name in renamed} == set(weights)
    assert renamed["layers.0.mlp.up_proj.weight"] is weights["model.layers.0.mlp.up_proj.weight"]


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "permute_experts", "seed": 1},
        {"kind": "overwrite_rows", "rows": [LLAMA.vocab], "seed": 1},
        {"kind": "quantise", "format": "int3"},
        {"kind": "permute_units"},
    ],
)
def test_what_cannot_be_done_is_said(step: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        apply_operation(LLAMA, make(LLAMA), step)


def test_every_disguise_is_registered_and_tested() -> None:
    assert {(kind, shape.family) for shape, kind in CASES} == {
        (kind, shape.family) for shape in SHAPES for kind in STEPS if is_defined(kind, shape.family)
    }
    keeping = {*disguises.DISGUISES, *widening.__all__, *decoys.__all__}
    assert keeping | {quantise.quantise.__name__} <= OPERATIONS.keys()
    assert keeping == {*STEPS, "rename"}
