"""Attention that no training leaves: huge, tiny, dead, equal, or in part not a number. An answer or a reason, never a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homolog.lab.shape import Shape, Weights
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare

ZOO = Path(__file__).parents[1] / "zoo"


def scale(parts: tuple[str, ...], factor: float) -> Callable[[Shape, Weights], tuple[Shape, Weights]]:
    def change(shape: Shape, weights: Weights) -> tuple[Shape, Weights]:
        factors = {name: np.float32(factor if any(part in name for part in parts) else 1) for name in weights}
        return shape, {name: np.asarray(tensor * factors[name]) for name, tensor in weights.items()}

    return change


def equal_heads(shape: Shape, weights: Weights) -> tuple[Shape, Weights]:
    changed = dict(weights)
    for name, tensor in weights.items():
        if "self_attn" in name and "o_proj" not in name:
            changed[name] = np.tile(tensor[: shape.head_dim], (len(tensor) // shape.head_dim, 1))
    return shape, changed


def one_layer(shape: Shape, weights: Weights) -> tuple[Shape, Weights]:
    kept = {name: tensor for name, tensor in weights.items() if ".layers." not in name or ".layers.0." in name}
    return replace(shape, layers=1), kept


def poisoned(shape: Shape, weights: Weights) -> tuple[Shape, Weights]:
    changed = {name: tensor.copy() for name, tensor in weights.items()}
    changed["model.layers.1.self_attn.q_proj.weight"][3, 5] = np.nan
    changed["model.layers.2.self_attn.v_proj.weight"][:] = np.inf
    return shape, changed


STRANGE: dict[str, Callable[[Shape, Weights], tuple[Shape, Weights]]] = {
    "huge": scale(("self_attn",), 1e20),
    "huge values": scale(("v_proj", "o_proj"), 1e30),
    "tiny": scale(("self_attn",), 1e-20),
    "dead": scale(("o_proj",), 0.0),
    "all dead": scale(("self_attn",), 0.0),
    "equal heads": equal_heads,
    "one layer": one_layer,
    "not a number": poisoned,
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("hidden", [False, True])
def test_strange_attention_has_an_answer_or_a_reason(name: str, hidden: bool, tmp_path: Path) -> None:
    shape, weights = STRANGE[name](*load_model(ZOO / "a-zh-1x"))
    if hidden:  # units in another order, so that bodies are looked at
        order = np.random.default_rng(0).permutation(shape.ffn)
        axes = {"gate_proj": 0, "up_proj": 0, "down_proj": 1}
        for tensor in [key for key in weights if ".mlp." in key]:
            axis = axes[tensor.split(".")[-2]]
            weights[tensor] = np.ascontiguousarray(np.take(weights[tensor], order, axis=axis))
    save_weights(tmp_path / "strange", shape, weights)
    shutil.copy(ZOO / "a" / "tokenizer.json", tmp_path / "strange")
    for first, second in ((ZOO / "a", tmp_path / "strange"), (tmp_path / "strange", ZOO / "b")):
        made = compare(first, second).to_json()
        heads = made["agreement"]["heads"]
        assert (heads["value"] is None) == (heads["absent"] is not None) or "null" in str(heads["absent"])
        assert heads["value"] is None or abs(heads["value"]) <= 1.001
        assert made["verdict"] != "related" or second != ZOO / "b"
