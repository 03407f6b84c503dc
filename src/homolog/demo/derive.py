"""Models made from a llama in GGUF with nothing but numpy: disguised, deepened, quantised anew, and drawn at random in its likeness.

One tensor is held at a time. The disguises keep the function of the model: docs/statistics.md says which of them hide what.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint

__all__ = ["Disguise", "deepen", "disguise", "draw_alike", "requantise"]

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Of a layer's tensors, by their names in GGUF."""
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_READERS = {
    "attn_q": "attn_norm",
    "attn_k": "attn_norm",
    "attn_v": "attn_norm",
    "ffn_gate": "ffn_norm",
    "ffn_up": "ffn_norm",
}
"""Matrices that read the residual stream, each with the norm before it."""
_WRITERS = ("attn_output", "ffn_down")

Entry = tuple[str, tuple[int, ...], Callable[[], Array]]


@dataclass(frozen=True, slots=True)
class Disguise:
    """What is done to the weights; all of it leaves the function as it is."""

    rotate: bool = True
    """The residual stream in another basis, norm gains folded into the matrices behind them."""
    units: bool = False
    """The units of every FFN in another order, up and down rescaled against each other."""
    heads: bool = True
    """The key heads of every layer in another order, with their queries."""


def disguise(model: Checkpoint, folder: Path, how: Disguise, seed: int = 0) -> Path:
    """The model under other names, in another format and disguised. Returns the folder."""
    rng = np.random.default_rng(seed)
    width, units = model.tensors["token_embd.weight"].shape[1], model.tensors["blk.0.ffn_up.weight"].shape[0]
    turn: Array = _rotation(width, rng) if how.rotate else np.eye(width, dtype=np.float32)
    gain = model.read_rows("output_norm.weight")

    def entries() -> Iterator[Entry]:
        embedding = "token_embd.weight"
        shape = model.tensors[embedding].shape
        yield "model.embed_tokens.weight", shape, lambda: _narrow(model.read_rows(embedding) @ turn)
        yield "lm_head.weight", shape, lambda: _narrow((model.read_rows(embedding) * gain) @ turn)
        yield "model.norm.weight", (width,), lambda: np.ones(width, dtype=np.float32)
        for layer in range(_depth(model)):
            order = rng.permutation(units) if how.units else np.arange(units)
            scale = rng.uniform(0.5, 2.0, units).astype(np.float32) if how.units else np.ones(units, dtype=np.float32)
            kept = _head_orders(model, rng if how.heads else None)
            for part, name in _NAMES.items():
                stored = f"blk.{layer}.{part}.weight"
                yield (
                    f"model.layers.{layer}.{name}.weight",
                    model.tensors[stored].shape,
                    _change(model, stored, part, turn, order, scale, kept),
                )

    return _write(model, folder, entries(), layers=_depth(model), tied=False)


def _change(
    model: Checkpoint,
    stored: str,
    part: str,
    turn: Array,
    order: np.ndarray,
    scale: Array,
    kept: dict[str, np.ndarray],
) -> Callable[[], Array]:
    def read() -> Array:
        weights = model.read_rows(stored)
        if weights.ndim == 1:
            return np.ones_like(weights)
        if part in _READERS:
            weights = _narrow((weights * model.read_rows(stored.replace(part, _READERS[part]))) @ turn)
        if part in _WRITERS:
            weights = _narrow(turn.T @ weights)
        if part in ("ffn_gate", "ffn_up"):
            weights = weights[order]
        if part == "ffn_up":
            weights = _narrow(weights * scale[:, None])
        if part == "ffn_down":
            weights = _narrow(weights[:, order] / scale)
        if part in kept:
            weights = weights[:, kept[part]] if part == "attn_output" else weights[kept[part]]
        return weights

    return read


def _narrow(weights: np.ndarray) -> Array:
    return np.asarray(weights, dtype=np.float32)


def deepen(model: Checkpoint, folder: Path, first: int, last: int) -> Path:
    """The model with layers ``first`` to ``last`` standing twice, as in depth up-scaling. Returns the folder."""
    layers = [*range(last + 1), *range(first, _depth(model))]

    def entries() -> Iterator[Entry]:
        yield from _top(model)
        for new, old in enumerate(layers):
            for part, name in _NAMES.items():
                yield _plain(model, f"blk.{old}.{part}.weight", f"model.layers.{new}.{name}.weight")

    return _write(model, folder, entries(), layers=len(layers), tied=True)


def draw_alike(model: Checkpoint, folder: Path, seed: int = 0) -> Path:
    """A model of the same shapes, every tensor drawn with the mean and spread of the model's own. Nobody trained it."""
    rng = np.random.default_rng(seed)

    def draw(stored: str) -> Array:
        weights = model.read_rows(stored)
        drawn = rng.standard_normal(weights.shape, dtype=np.float32)
        return np.asarray(drawn * weights.std() + weights.mean(), dtype=np.float32)

    def entries() -> Iterator[Entry]:
        for stored, name in _all(model):
            yield name, model.tensors[stored].shape, partial(draw, stored)

    return _write(model, folder, entries(), layers=_depth(model), tied=True)


def requantise(model: Checkpoint, path: Path, kind: str) -> Path:
    """The model as GGUF with its matrices quantised as ``kind``, with the tokens and the sizes that it had. Returns the path."""
    from gguf.constants import GGMLQuantizationType  # noqa: PLC0415
    from gguf.gguf_writer import GGUFWriter  # noqa: PLC0415
    from gguf.quants import quantize  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama", use_temp_file=True)
    sizes = model.config
    writer.add_block_count(sizes["num_hidden_layers"])
    writer.add_head_count(sizes["num_attention_heads"])
    writer.add_head_count_kv(sizes["num_key_value_heads"])
    if model.tokenizer is not None:
        writer.add_tokenizer_model(model.tokenizer.model)
        writer.add_token_list([token.decode("utf-8", "replace") for token in model.tokenizer.tokens])
    quantised = GGMLQuantizationType[kind]
    for stored in model.tensors:
        weights = model.read_rows(stored)
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(stored.split(".")[-2])
        if heads:
            weights = _interleave(weights, sizes[heads])
        if weights.ndim == 1:
            writer.add_tensor(stored, weights)
        else:
            writer.add_tensor(stored, quantize(weights, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleave(weights: Array, heads: int) -> Array:
    """Rotary pairs side by side, as llama.cpp wants them."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))


def _depth(model: Checkpoint) -> int:
    return int(model.config["num_hidden_layers"])


def _rotation(width: int, rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((width, width)))
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float32)


def _head_orders(model: Checkpoint, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
    """For each matrix of the attention the rows (columns, of the output) in their new order: groups of heads change places."""
    if rng is None:
        return {}
    queries, keys = (model.tensors[f"blk.0.{part}.weight"].shape[0] for part in ("attn_q", "attn_k"))
    groups = rng.permutation(model.config["num_key_value_heads"])

    def order(rows: int) -> np.ndarray:
        return np.arange(rows).reshape(len(groups), -1)[groups].reshape(-1)

    return {"attn_q": order(queries), "attn_k": order(keys), "attn_v": order(keys), "attn_output": order(queries)}


def _all(model: Checkpoint) -> Iterator[tuple[str, str]]:
    for part, name in _TOP.items():
        yield f"{part}.weight", f"{name}.weight"
    for layer in range(_depth(model)):
        for part, name in _NAMES.items():
            yield f"blk.{layer}.{part}.weight", f"model.layers.{layer}.{name}.weight"


def _plain(model: Checkpoint, stored: str, name: str) -> Entry:
    return name, model.tensors[stored].shape, lambda: model.read_rows(stored)


def _top(model: Checkpoint) -> Iterator[Entry]:
    for part, name in _TOP.items():
        yield _plain(model, f"{part}.weight", f"{name}.weight")


def _write(model: Checkpoint, folder: Path, entries: Iterable[Entry], *, layers: int, tied: bool) -> Path:
    """A folder as a hub has it: half-precision safetensors, written one tensor after the other, with config and vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(entries)
    header: dict[str, object] = {}
    place = 0
    for name, shape, _ in listed:
        nbytes = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, place + nbytes]}
        place += nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, read in listed:
            file.write(read().astype(np.float16).tobytes())
    sizes = ("num_attention_heads", "num_key_value_heads", "hidden_size", "intermediate_size", "rope_theta")
    config = {"model_type": "llama", "num_hidden_layers": layers, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(
        json.dumps(config | {size: model.config[size] for size in sizes if size in model.config}), "utf-8"
    )
    if model.tokenizer is not None:
        tokens = {token.decode("utf-8", "replace"): index for index, token in enumerate(model.tokenizer.tokens)}
        (folder / "vocab.json").write_text(json.dumps(tokens), "utf-8")
    return folder
