from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from homolog.errors import UsageError
from homolog.lab import disguises, operations, widening  # noqa: F401  (disguises and widening register themselves)
from homolog.lab.model import run_model
from homolog.lab.operations import OPERATIONS, apply_operation
from homolog.lab.shape import Shape, Weights, initialise, list_tensors

pytestmark = pytest.mark.lab

LLAMA = Shape(vocab=320, width=32, layers=3, ffn=48)
QWEN = replace(LLAMA, family="qwen2", tied=True)


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


def relative_change(shape: Shape, step: dict[str, Any]) -> float:
    weights = make(shape)
    before = logits(shape, weights)
    outcome = apply_operation(shape, weights, step)
    assert {n: w.shape for n, w in outcome.weights.items()} == list_tensors(outcome.shape)
    after = logits(outcome.shape, outcome.weights)[..., : shape.vocab]
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
    (QWEN, {"kind": "rotate_residual", "seed": 1}),
]
CHANGING: list[tuple[Shape, dict[str, Any]]] = [
    (LLAMA, {"kind": "keep_layers", "layers": [0, 2]}),
    (LLAMA, {"kind": "keep_layers", "layers": [0, 1, 1, 2]}),
    (LLAMA, {"kind": "prune_ffn", "units": 30}),
    (LLAMA, {"kind": "add_noise", "relative": 0.3, "seed": 1}),
    (QWEN, {"kind": "upcycle", "experts": 4, "chosen": 2, "noise": 0.3, "seed": 1}),
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
    """Those of this module here; of the disguises, those that a dense model of plain names can undergo (tests/lab has the rest)."""
    tested = {step["kind"] for _, step in KEEPING + CHANGING}
    own = {kind for kind, operation in OPERATIONS.items() if operation.__module__ == operations.__name__}
    assert own <= tested <= set(OPERATIONS)


@pytest.mark.parametrize(("shape", "step"), [case for case in KEEPING + CHANGING if "seed" in case[1]])
def test_the_seed_decides(shape: Shape, step: dict[str, Any]) -> None:
    first, again, other = (
        apply_operation(shape, make(shape), {**step, "seed": seed}).weights for seed in (step["seed"], step["seed"], 99)
    )
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], other[n]) for n in first)


def test_the_parent_is_not_written_to() -> None:
    for shape, step in KEEPING + CHANGING:
        weights = make(shape)
        apply_operation(shape, weights, step)
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
        (LLAMA, {"kind": "upcycle", "experts": 2, "chosen": 1, "seed": 1}, "qwen2"),
        (Shape(family="gpt2"), {"kind": "prune_ffn", "units": 3}, "gpt2"),
    ],
)
def test_says_what_is_off(shape: Shape, step: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        apply_operation(shape, initialise(shape, seed=1), step)
