from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from homolog.errors import UsageError
from homolog.lab.adapters import merge_adapters
from homolog.lab.model import run_model
from homolog.lab.operations import OPERATIONS, apply_operation
from homolog.lab.registry import Find
from homolog.lab.shape import Shape, Weights, initialise, list_tensors

pytestmark = pytest.mark.lab

LLAMA = Shape(vocab=320, width=32, layers=3, ffn=48)
QWEN = replace(LLAMA, family="qwen2", tied=True)
QWEN3 = replace(LLAMA, family="qwen3")
MOE = replace(LLAMA, family="qwen2_moe", experts=4, shared_ffn=24)
GROUPED = replace(LLAMA, family="pangu_pro_moe", experts=4, shared_ffn=24, groups=2)
SANDWICH = replace(LLAMA, family="pangu")
WIDE_HEADS = replace(LLAMA, head_size=10)
GPT2 = Shape(family="gpt2", vocab=320, width=32, layers=3, ffn=48, kv_heads=4, tied=True)
EVERY = {shape.family: shape for shape in (LLAMA, QWEN, QWEN3, MOE, GROUPED, SANDWICH, GPT2)}


def make(shape: Shape) -> Weights:
    """Random weights with large enough biases and gains that none of them can be lost unseen."""
    rng = np.random.default_rng(5)
    weights = initialise(shape, seed=3, std=0.2)
    return {
        n: w + 0.2 * rng.standard_normal(w.shape).astype(np.float32) if w.ndim == 1 else w for n, w in weights.items()
    }


def logits(shape: Shape, weights: Weights) -> npt.NDArray[np.float32]:
    ids = torch.from_numpy(np.random.default_rng(4).integers(0, 320, (2, 24)))
    with torch.no_grad():
        result: npt.NDArray[np.float32] = run_model({n: torch.tensor(w) for n, w in weights.items()}, shape, ids)[
            0
        ].numpy()
    return result


def finder(shape: Shape) -> Find:
    """Other models of this shape, one for each name."""
    return lambda name: (shape, initialise(shape, seed=len(name) + 7, std=0.2))


def relative_change(shape: Shape, step: dict[str, Any]) -> float:
    weights = make(shape)
    before = logits(shape, weights)
    outcome = apply_operation(shape, weights, step, find=finder(shape))
    merged = merge_adapters(outcome.weights)
    assert {n: w.shape for n, w in merged.items()} == list_tensors(outcome.shape)
    assert outcome.fresh <= outcome.weights.keys()
    after = logits(outcome.shape, merged)[..., : shape.vocab]
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


KEEPING: list[tuple[Shape, dict[str, Any]]] = [
    (LLAMA, {"kind": "keep_layers", "layers": [0, 1, 2]}),
    (LLAMA, {"kind": "insert_layers", "before": [0, 2, 3], "seed": 1}),
    (QWEN, {"kind": "insert_layers", "before": [1], "seed": 1}),
    (LLAMA, {"kind": "widen_ffn", "units": 16, "seed": 1}),
    (LLAMA, {"kind": "widen_ffn", "units": 16, "interleave": True, "seed": 1}),
    (QWEN, {"kind": "upcycle", "experts": 4, "chosen": 2, "seed": 1}),
    (LLAMA, {"kind": "extend_vocabulary", "tokens": 8, "seed": 1}),
    (LLAMA, {"kind": "permute_units", "seed": 1}),
    (LLAMA, {"kind": "sort_units"}),
    (LLAMA, {"kind": "permute_heads", "seed": 1}),
    (LLAMA, {"kind": "permute_residual", "seed": 1}),
    (LLAMA, {"kind": "flip_signs", "seed": 1}),
    (LLAMA, {"kind": "fold_norms"}),
    (LLAMA, {"kind": "rotate_residual", "seed": 1}),
    (LLAMA, {"kind": "rescale", "seed": 1}),
    (LLAMA, {"kind": "mix_values", "seed": 1}),
    (LLAMA, {"kind": "split_units", "seed": 1}),
    (LLAMA, {"kind": "flip_gates", "seed": 1}),
    (QWEN, {"kind": "flip_gates", "share": 0.6, "seed": 1}),
    (LLAMA, {"kind": "add_decoys", "pairs": 7, "length": 1.5, "seed": 1}),
    (LLAMA, {"kind": "bury_units", "groups": 2, "noise": 10.0, "seed": 1}),
    (QWEN, {"kind": "rotate_residual", "seed": 1}),
    (LLAMA, {"kind": "add_adapters", "rank": 3, "targets": ["q_proj", "down_proj"], "seed": 1}),
    (GPT2, {"kind": "add_adapters", "rank": 3, "targets": ["c_attn", "c_fc"], "layers": [1], "seed": 1}),
    (LLAMA, {"kind": "widen_residual", "channels": 12, "seed": 1}),
    (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "seed": 1}),
    (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 4, "mode": "partitions", "std": 0.0, "seed": 1}),
    (QWEN, {"kind": "upcycle", "experts": 4, "chosen": 4, "mode": "partitions", "shared": 16, "std": 0.0, "seed": 1}),
    (
        QWEN,
        {
            "kind": "upcycle",
            "experts": 4,
            "chosen": 4,
            "mode": "partitions",
            "family": "pangu_pro_moe",
            "groups": 2,
            "shared": 16,
            "std": 0.0,
            "seed": 1,
        },
    ),
    *((EVERY[family], {"kind": "insert_layers", "before": [0, 2, 3], "seed": 1}) for family in EVERY),
    *((EVERY[family], {"kind": "widen_ffn", "units": 16, "seed": 1}) for family in ("qwen3", "pangu", "gpt2")),
    *((EVERY[family], {"kind": "widen_residual", "channels": 12, "seed": 1}) for family in EVERY if family != "gpt2"),
    *((EVERY[family], {"kind": "extend_vocabulary", "tokens": 8, "seed": 1}) for family in ("qwen3", "gpt2")),
    *(
        (EVERY[family], {"kind": kind, "seed": 1})
        for family in ("qwen3", "pangu_pro_moe", "pangu")
        for kind in ("permute_residual", "flip_signs", "pad_residual", "rescale", "mix_values", "rotate_residual")
        if (family, kind) != ("pangu", "rotate_residual")
    ),
    *((shape, {"kind": "permute_heads", "seed": 1}) for shape in (QWEN3, GROUPED, SANDWICH, GPT2, WIDE_HEADS)),
    *((shape, {"kind": "permute_units", "seed": 1}) for shape in (QWEN3, GROUPED, SANDWICH, GPT2)),
    *((shape, {"kind": "fold_norms"}) for shape in (QWEN3, GROUPED, SANDWICH)),
    *((shape, {"kind": "permute_experts", "seed": 1}) for shape in (MOE, GROUPED)),
    (WIDE_HEADS, {"kind": "widen_residual", "channels": 12, "seed": 1}),
    (WIDE_HEADS, {"kind": "pad_residual", "seed": 1}),
    (WIDE_HEADS, {"kind": "rotate_residual", "seed": 1}),
    (GPT2, {"kind": "sort_units"}),
]
CHANGING: list[tuple[Shape, dict[str, Any]]] = [
    (LLAMA, {"kind": "keep_layers", "layers": [0, 2]}),
    (LLAMA, {"kind": "keep_layers", "layers": [0, 1, 1, 2]}),
    (LLAMA, {"kind": "prune_ffn", "units": 30}),
    (LLAMA, {"kind": "add_noise", "relative": 0.3, "seed": 1}),
    (QWEN, {"kind": "upcycle", "experts": 4, "chosen": 2, "noise": 0.3, "seed": 1}),
    (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "mode": "partitions", "seed": 1}),
    (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "mode": "subsets", "units": 20, "drop": 0.5, "seed": 1}),
    (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "drop": 0.5, "seed": 1}),
    *((shape, {"kind": "prune_residual", "channels": 20}) for shape in EVERY.values() if shape.family != "gpt2"),
    *((shape, {"kind": "prune_heads", "groups": 1}) for shape in EVERY.values() if shape.family != "gpt2"),
    *((shape, {"kind": "grow_experts", "experts": 4, "seed": 1}) for shape in (MOE, GROUPED)),
    *((shape, {"kind": "regroup_experts", "parts": 2, "seed": 1}) for shape in (MOE, GROUPED)),
    (MOE, {"kind": "grow_experts", "experts": 2, "copied": True, "seed": 1}),
    (LLAMA, {"kind": "add_norms"}),
    (QWEN, {"kind": "add_norms", "gain": 0.7}),
    (LLAMA, {"kind": "reset_embeddings", "seed": 1}),
    *((shape, {"kind": "reset_units", "share": 0.5, "seed": 1}) for shape in EVERY.values()),
    *((shape, {"kind": "reset_layers", "layers": [1], "seed": 1}) for shape in EVERY.values()),
    (GPT2, {"kind": "reset_embeddings", "seed": 1}),
    (LLAMA, {"kind": "swap_vocabulary", "tokens": 330, "seed": 1}),
    (LLAMA, {"kind": "merge", "method": "linear", "models": ["b"], "coefficients": [0.5, 0.5]}),
    (LLAMA, {"kind": "merge", "method": "ties", "models": ["b"], "base": "c", "seed": 1}),
    (LLAMA, {"kind": "quantise", "format": "int4"}),
    (LLAMA, {"kind": "overwrite_rows", "rows": [3, 17], "seed": 1}),
    (GPT2, {"kind": "keep_layers", "layers": [0, 2, 2]}),
    (GPT2, {"kind": "prune_ffn", "units": 30}),
    (GPT2, {"kind": "add_noise", "relative": 0.3, "seed": 1}),
]


@pytest.mark.parametrize(
    ("shape", "step"), KEEPING, ids=lambda value: value.get("kind") if isinstance(value, dict) else ""
)
def test_keeps_the_function(shape: Shape, step: dict[str, Any]) -> None:
    assert relative_change(shape, step) < 1e-3


@pytest.mark.parametrize(
    ("shape", "step"), CHANGING, ids=lambda value: value.get("kind") if isinstance(value, dict) else ""
)
def test_changes_the_function(shape: Shape, step: dict[str, Any]) -> None:
    assert relative_change(shape, step) > 0.01


def test_every_operation_is_tested() -> None:
    tested = {step["kind"] for _, step in KEEPING + CHANGING}
    assert tested == OPERATIONS.keys() - {"rename"}, "which changes names, not numbers (tests/lab)"


@pytest.mark.parametrize(
    ("shape", "step"), [case for case in KEEPING + CHANGING if "seed" in case[1] and case[1]["kind"] != "merge"]
)
def test_the_seed_decides(shape: Shape, step: dict[str, Any]) -> None:
    first, again, other = (
        apply_operation(shape, make(shape), {**step, "seed": seed}, find=finder(shape)).weights
        for seed in (step["seed"], step["seed"], 99)
    )
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], other[n]) for n in first)


def test_the_parent_is_not_written_to() -> None:
    for shape, step in KEEPING + CHANGING:
        weights = make(shape)
        apply_operation(shape, weights, step, find=finder(shape))
        assert all(np.array_equal(weights[n], w) for n, w in make(shape).items())


def test_facts_name_the_units_kept() -> None:
    weights = make(LLAMA)
    outcome = apply_operation(LLAMA, weights, {"kind": "prune_ffn", "units": 30})
    assert outcome.facts is not None
    name = "model.layers.1.mlp.up_proj.weight"
    assert np.array_equal(outcome.weights[name], weights[name][outcome.facts["kept_units"][1]])


def test_facts_name_the_sources_and_fresh_the_new_tensors() -> None:
    weights = make(LLAMA)
    outcome = apply_operation(LLAMA, weights, {"kind": "insert_layers", "before": [1], "seed": 1})
    assert outcome.facts == {"sources": [0, None, 1, 2]}
    assert {name.split(".")[2] for name in outcome.fresh} == {"1"}
    name = "model.layers.{}.mlp.up_proj.weight"
    assert np.array_equal(outcome.weights[name.format(3)], weights[name.format(2)])


@pytest.mark.parametrize(
    ("shape", "step", "says"),
    [
        (LLAMA, {"kind": "melt"}, "melt"),
        (LLAMA, {"kind": "prune_ffn", "unit": 3}, "unit"),
        (LLAMA, {"kind": "prune_ffn", "units": 48}, "48 of 48"),
        (LLAMA, {"kind": "keep_layers", "layers": [3]}, "with 3"),
        (MOE, {"kind": "upcycle", "experts": 2, "chosen": 1, "seed": 1}, "not defined for qwen2_moe"),
        (GPT2, {"kind": "rotate_residual", "seed": 1}, "not defined for gpt2"),
        (GPT2, {"kind": "prune_residual", "channels": 16}, "not defined for gpt2"),
        (SANDWICH, {"kind": "rotate_residual", "seed": 1}, "not defined for pangu"),
        (LLAMA, {"kind": "prune_ffn", "units": "30"}, "units is '30', expected int"),
        (LLAMA, {"kind": "prune_ffn", "units": True}, "units is True, expected int"),
        (LLAMA, {"kind": "keep_layers", "layers": [0, 1.5]}, "expected list"),
        (LLAMA, {"kind": "insert_layers", "before": [4], "seed": 1}, "with 3"),
        (LLAMA, {"kind": "widen_ffn", "units": 0, "seed": 1}, "at least 1"),
        (LLAMA, {"kind": "widen_residual", "channels": -2, "seed": 1}, "at least 1"),
        (LLAMA, {"kind": "prune_residual", "channels": 32}, "32 of 32"),
        (LLAMA, {"kind": "prune_heads", "groups": 2}, "2 of 2"),
        (LLAMA, {"kind": "upcycle", "experts": 5, "chosen": 2, "mode": "partitions", "seed": 1}, "do not divide"),
        (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 5, "seed": 1}, "1 to 4 chosen"),
        (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "mode": "halves", "seed": 1}, "halves"),
        (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "shared": 8, "seed": 1}, "copies"),
        (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "mode": "subsets", "seed": 1}, "subsets of 0"),
        (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "family": "pangu_pro_moe", "seed": 1}, "groups 0"),
        (LLAMA, {"kind": "upcycle", "experts": 4, "chosen": 2, "drop": 1.0, "seed": 1}, "drop"),
        (GROUPED, {"kind": "grow_experts", "experts": 3, "seed": 1}, "multiple of 2"),
        (LLAMA, {"kind": "extend_vocabulary", "tokens": 0, "seed": 1}, "at least 1"),
        (LLAMA, {"kind": "swap_vocabulary", "tokens": 0, "seed": 1}, "at least 1"),
        (LLAMA, {"kind": "add_noise", "relative": float("nan"), "seed": 1}, "finite"),
        (LLAMA, {"kind": "add_adapters", "rank": 2, "targets": ["c_attn"], "seed": 1}, "no matrix named c_attn"),
        (LLAMA, {"kind": "add_adapters", "rank": 2, "targets": [], "seed": 1}, "none named"),
        (LLAMA, {"kind": "add_adapters", "rank": 99, "targets": ["v_proj"], "seed": 1}, "rank 99"),
        (LLAMA, {"kind": "add_adapters", "rank": 2, "targets": ["v_proj"], "layers": [3], "seed": 1}, "with 3"),
        (LLAMA, {"kind": "merge", "method": "linear", "models": ["b"]}, "where a recipe is built"),
        (LLAMA, {"kind": "permute_units", "seed": -1}, "seed is -1, expected 0 or more"),
        (LLAMA, {"kind": "insert_layers", "before": [1], "seed": 1, "std": -0.1}, "std is -0.1"),
        (LLAMA, {"kind": "add_norms", "gain": float("inf")}, "gain is inf"),
        (LLAMA, {"kind": "split_units", "share": 1.5, "seed": 1}, "0 to 1"),
    ],
)
def test_says_what_is_off(shape: Shape, step: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        apply_operation(shape, initialise(shape, seed=1), step)
