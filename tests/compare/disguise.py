"""Disguises and surgery in numpy, on tensors in the llama layout, and writing the result as a checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.checkpoint.writers import encode_safetensors

from homolog.checkpoint.open import open_checkpoint

Tensors = dict[str, npt.NDArray[np.float32]]

_FFN = ("gate_proj", "up_proj")


def load(folder: Path) -> Tensors:
    with open_checkpoint(folder) as checkpoint:
        return {
            name: checkpoint.read_rows(name).reshape(info.shape).copy() for name, info in checkpoint.tensors.items()
        }


def save(tensors: Mapping[str, npt.NDArray[np.float32]], like: Path, folder: Path, **config: Any) -> Path:
    """The tensors as float32, with the config (changed by ``config``) and the tokenizer of ``like`` beside them."""
    folder.mkdir(parents=True)
    settings = json.loads((like / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "vocab.txt"):
        if (like / name).is_file():
            shutil.copy(like / name, folder / name)
    plain = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    (folder / "model.safetensors").write_bytes(encode_safetensors(plain))
    return folder


def layers_of(tensors: Tensors) -> int:
    return 1 + max(int(m[1]) for name in tensors if (m := re.match(r"model\.layers\.(\d+)\.", name)))


def on_layers(tensors: Tensors, change: Callable[[str, npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> Tensors:
    return {name: change(name, tensor) for name, tensor in tensors.items()}


def permute_units(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """Every FFN's units in a new order; the function stays the same."""
    orders = {
        layer: rng.permutation(len(tensors[f"model.layers.{layer}.mlp.up_proj.weight"]))
        for layer in range(layers_of(tensors))
    }

    def change(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        match = re.match(r"model\.layers\.(\d+)\.mlp\.(\w+)\.weight", name)
        if not match:
            return tensor
        order = orders[int(match[1])]
        return tensor[order] if match[2] in _FFN else tensor[:, order]

    return on_layers(tensors, change)


def fold_gains(tensors: Tensors) -> Tensors:
    """Norm gains moved into the matrices that follow them; the function stays the same."""
    out = dict(tensors)
    for layer in range(layers_of(tensors)):
        stem = f"model.layers.{layer}."
        for norm, readers in (
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
        ):
            gain = out[f"{stem}{norm}.weight"]
            for reader in readers:
                out[f"{stem}{reader}.weight"] = out[f"{stem}{reader}.weight"] * gain
            out[f"{stem}{norm}.weight"] = np.ones_like(gain)
    out["lm_head.weight"] = out["lm_head.weight"] * out["model.norm.weight"]
    out["model.norm.weight"] = np.ones_like(out["model.norm.weight"])
    return out


def turn_residual(tensors: Tensors, q: npt.NDArray[np.float32]) -> Tensors:
    """The residual stream in another orthonormal basis; with gains folded (and RMSNorm) the function stays the same."""

    def change(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if name.endswith("norm.weight"):
            return tensor
        return q.T @ tensor if name.endswith(("o_proj.weight", "down_proj.weight")) else tensor @ q

    return on_layers(fold_gains(tensors), change)


def permute_residual(tensors: Tensors, order: npt.NDArray[np.intp]) -> Tensors:
    """The residual channels in a new order, norm gains along with them; the function stays the same."""

    def change(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if tensor.ndim == 1 or name.endswith(("o_proj.weight", "down_proj.weight")):
            return tensor[order]
        return tensor[:, order]

    return on_layers(tensors, change)


def rotation(width: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    q, r = np.linalg.qr(rng.standard_normal((width, width)))
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float32)


def permutation(width: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return np.eye(width, dtype=np.float32)[rng.permutation(width)]


def add_noise(tensors: Tensors, share: float, rng: np.random.Generator) -> Tensors:
    """Gaussian noise of ``share`` times each matrix's spread."""
    return on_layers(
        tensors,
        lambda _, t: (
            t + np.float32(share * t.std()) * rng.standard_normal(t.shape, dtype=np.float32) if t.ndim == 2 else t
        ),
    )


def pick_layers(tensors: Tensors, order: list[int]) -> Tensors:
    """A model whose layers are those of ``tensors`` in ``order``: dropped, doubled or moved."""
    out = {name: tensor for name, tensor in tensors.items() if not name.startswith("model.layers.")}
    for new, old in enumerate(order):
        stem = f"model.layers.{old}."
        out |= {name.replace(stem, f"model.layers.{new}."): t for name, t in tensors.items() if name.startswith(stem)}
    return out


def pick_units(tensors: Tensors, kept: npt.NDArray[np.intp]) -> Tensors:
    """Every FFN pruned to the units ``kept``."""

    def change(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if ".mlp." not in name:
            return tensor
        return tensor[kept] if name.endswith(("gate_proj.weight", "up_proj.weight")) else tensor[:, kept]

    return on_layers(tensors, change)


def insert_units(tensors: Tensors, every: int, rng: np.random.Generator) -> Tensors:
    """Every FFN widened by a fresh unit after every ``every`` old ones."""
    width = tensors["model.layers.0.mlp.up_proj.weight"].shape[0]
    places = np.arange(every, width + 1, every)

    def change(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if ".mlp." not in name:
            return tensor
        axis = 0 if name.endswith(("gate_proj.weight", "up_proj.weight")) else 1
        shape = list(tensor.shape)
        shape[axis] = len(places)
        fresh = np.float32(tensor.std()) * rng.standard_normal(shape, dtype=np.float32)
        return np.insert(tensor, places, fresh, axis=axis)

    return on_layers(tensors, change)
