"""Writes a hub's model as GGUF, as llama.cpp's converter does, with the names and the writer of the gguf package.

What it does to the tensors follows the converter that llama-cpp-python 0.3.36 carries (vendor/llama.cpp/conversion/): llama.py (rotary
pairs side by side), gpt2.py (Conv1D turned), qwen.py (experts stacked), gemma.py and nemotron.py (one added to norms), deepseek.py (the
latent's keys and values cut, keys turned), falcon.py, gptneox.py and bloom.py (queries, keys and values one after the other),
baichuan.py and internlm.py (and apart), granite.py, gpt_oss.py and llama.py (stacked experts cut and turned), base.py (axes of length
1 dropped, vectors kept in F32, added tokens marked). The cuts of falcon, gptneox, bloom, baichuan, internlm, granite, gpt_oss and llama 4
are written down from what is known of them, not copied line by line: the tests show that reading undoes them, not that every file in the
world was made so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, TokenType
from gguf.gguf_writer import GGUFWriter
from gguf.quants import quantize
from gguf.tensor_mapping import get_tensor_name_map

from homolog.checkpoint.base import Array, Checkpoint
from homolog.checkpoint.open import open_checkpoint

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen2_moe": MODEL_ARCH.QWEN2MOE,
    "gpt2": MODEL_ARCH.GPT2,
}
INTERLEAVED = (
    *(MODEL_ARCH.LLAMA, MODEL_ARCH.SMOLLM3, MODEL_ARCH.GRANITE, MODEL_ARCH.GRANITE_MOE, MODEL_ARCH.OLMO),
    *(MODEL_ARCH.BAICHUAN, MODEL_ARCH.INTERNLM2, MODEL_ARCH.MINICPM),
)
ONE_ADDED = (MODEL_ARCH.GEMMA, MODEL_ARCH.GEMMA2, MODEL_ARCH.GEMMA3, MODEL_ARCH.NEMOTRON)
SIZES = {
    "block_count": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "embedding_length": ("hidden_size", "n_embd", "d_model"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads", "n_head"),
    "attention.key_length": ("head_dim",),
    "attention.kv_lora_rank": ("kv_lora_rank",),
    "expert_count": ("num_experts",),
}


def convert(folder: Path, target: Path, kind: str = "F32", *, pieces: int = 0) -> Path:
    """The model of a folder as one GGUF file (or several, of ``pieces`` tensors each), its matrices stored as ``kind``."""
    with open_checkpoint(folder) as model:
        writer = GGUFWriter(target, _architecture(model.config), split_max_tensors=pieces)
        _add_sizes(writer, model.config)
        if (folder / "tokenizer.json").exists():
            _add_tokens(writer, json.loads((folder / "tokenizer.json").read_text("utf-8")), model.config["vocab_size"])
        for name, weights in convert_tensors(model).items():
            _add(writer, name, weights, GGMLQuantizationType[kind if weights.ndim > 1 else "F32"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def convert_tensors(model: Checkpoint) -> dict[str, Array]:
    """The tensors of a checkpoint by the names of llama.cpp, in its layout."""
    return rename_and_turn(
        {name: model.read_rows(name) for name in model.tensors}, model.config, ARCHITECTURES[model.config["model_type"]]
    )


def rename_and_turn(
    model: Mapping[str, Array], config: Mapping[str, Any], architecture: MODEL_ARCH
) -> dict[str, Array]:
    """Tensors by the names of llama.cpp, in its layout."""
    depth = next(config[key] for key in SIZES["block_count"] if key in config)
    names = get_tensor_name_map(architecture, depth)
    experts: dict[str, list[Array]] = {}
    tensors: dict[str, Array] = {}
    ordered = sorted(model, key=lambda name: [int(part) if part.isdigit() else 0 for part in name.split(".")])
    apart = [pair for key in ordered for pair in take_apart(key, model[key], config, architecture)]
    for name, stored in apart:
        weights = _turn(name, stored, config, architecture)
        if ".experts." in name and name.split(".experts.")[1][0].isdigit():
            stack, _, rest = name.partition(".experts.")
            if "block_sparse_moe" in stack:
                stack = stack.replace("model.", "").replace("block_sparse_moe", "feed_forward")
            experts.setdefault(f"{stack}.experts.{rest.split('.', 1)[1]}", []).append(weights)
        else:
            tensors[_rename(names, name)] = np.ascontiguousarray(weights)
    return tensors | {_rename(names, name): np.stack(parts) for name, parts in experts.items()}


def _turn(name: str, weights: Array, config: Mapping[str, Any], architecture: MODEL_ARCH) -> Array:
    """One tensor as the converter writes its numbers."""
    heads = config.get("num_attention_heads", 0)
    if architecture is MODEL_ARCH.GPT2 and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return weights.T
    if architecture in INTERLEAVED and ".q_proj." in name:
        return permute(weights, heads)
    if architecture in INTERLEAVED and ".k_proj." in name:
        return permute(weights, config.get("num_key_value_heads", heads))
    if architecture in ONE_ADDED and name.endswith("norm.weight"):
        return weights + np.float32(1)
    return weights


Named = list[tuple[str, Array]]


def take_apart(name: str, weights: Array, config: Mapping[str, Any], architecture: MODEL_ARCH) -> Named:
    """One tensor of the hub as the converter passes it on: under another name, or cut."""
    if name.endswith("inv_freq"):
        return []
    if architecture in (MODEL_ARCH.BLOOM, MODEL_ARCH.CHATGLM):
        name = name.removeprefix("transformer.")
    if name.endswith("e_score_correction_bias"):
        return [(name.replace("_bias", ".bias"), weights.squeeze())]
    if name.endswith("kv_b_proj.weight") and architecture is MODEL_ARCH.DEEPSEEK2:
        x = weights.reshape(config["num_key_value_heads"], -1, weights.shape[1])
        keys, values = np.split(x, [config["qk_nope_head_dim"]], axis=1)
        renamed = [name.replace("kv_b_proj", part) for part in ("k_b_proj", "v_b_proj")]
        return [(renamed[0], keys.swapaxes(1, 2)), (renamed[1], values)]
    if architecture in (MODEL_ARCH.FALCON, MODEL_ARCH.GPTNEOX, MODEL_ARCH.BLOOM) and "query_key_value" in name:
        return [(name, np.concatenate(_cut_heads(weights, config)))]
    if architecture is MODEL_ARCH.BAICHUAN and "W_pack" in name:
        thirds = zip("qkv", np.split(weights, 3), strict=True)
        return [(name.replace("W_pack", f"{part}_proj"), block) for part, block in thirds]
    if architecture is MODEL_ARCH.INTERNLM2 and "wqkv" in name:
        layer = name.split(".")[2]
        groups = zip("qkv", _cut_heads(weights, config), strict=True)
        return [(f"model.layers.{layer}.self_attn.{part}_proj.weight", block) for part, block in groups]
    if name.endswith("input_linear.weight"):  # Granite
        gates, ups = np.split(weights, 2, axis=1)
        stem = name.removesuffix("block_sparse_moe.input_linear.weight")
        return [(f"{stem}mlp.experts.gate_proj.weight", gates), (f"{stem}mlp.experts.up_proj.weight", ups)]
    return _take_stacks_apart(name, weights, alternating=architecture is MODEL_ARCH.GPT_OSS)


def _cut_heads(weights: Array, config: Mapping[str, Any]) -> list[Array]:
    """Queries, keys and values that lie group by group."""
    heads, width = (
        next(config[key] for key in SIZES[size] if key in config)
        for size in ("attention.head_count", "embedding_length")
    )
    groups = (len(weights) * heads // width - heads) // 2
    x = weights.reshape(groups, heads // groups + 2, -1, *weights.shape[1:])
    return [part.reshape(-1, *weights.shape[1:]) for part in (x[:, :-2], x[:, -2], x[:, -1])]


def _take_stacks_apart(name: str, weights: Array, *, alternating: bool) -> Named:
    """Experts as release 5 of transformers holds them, input × output (gpt-oss, Llama 4)."""
    stem, dot, leaf = name.rpartition(".")
    if leaf == "sinks":
        return [(f"{name}.weight", weights)]
    if leaf not in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"):
        return [(name, weights)]
    part = "bias" if leaf.endswith("_bias") else "weight"
    turned = weights if part == "bias" else weights.swapaxes(1, 2)
    if leaf.startswith("down_proj"):
        return [(f"{stem}{dot}down_proj.{part}", turned)]
    halves = (turned[:, ::2], turned[:, 1::2]) if alternating else np.split(turned, 2, axis=1)
    return [(f"{stem}{dot}{kind}_proj.{part}", half) for kind, half in zip(("gate", "up"), halves, strict=True)]


def permute(weights: npt.NDArray[Any], heads: int) -> Array:
    """``LlamaModel.permute``."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))


def _rename(names: Any, name: str) -> str:
    renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert renamed is not None, f"the gguf package has no name for {name}"
    return str(renamed)


def _architecture(config: Mapping[str, Any]) -> str:
    return str(MODEL_ARCH_NAMES[ARCHITECTURES[config["model_type"]]])


def _add_sizes(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    for key, spellings in SIZES.items():
        value = next((config[spelling] for spelling in spellings if spelling in config), None)
        if value is not None:
            writer.add_uint32(f"{_architecture(config)}.{key}", value)


def _add_tokens(writer: GGUFWriter, tokenizer: Mapping[str, Any], count: int) -> None:
    """``get_vocab_base``: ids without a token are filled, added tokens are control or user-defined ones."""
    vocabulary = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in tokenizer["added_tokens"]}
    tokens: list[str] = []
    kinds: list[TokenType] = []
    for index in range(count):
        if index in added:
            tokens.append(added[index]["content"])
            kinds.append(TokenType.CONTROL if added[index]["special"] else TokenType.USER_DEFINED)
        else:
            tokens.append(vocabulary.get(index, f"[PAD{index}]"))
            kinds.append(TokenType.NORMAL if index in vocabulary else TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])


def _add(writer: GGUFWriter, name: str, weights: Array, kind: GGMLQuantizationType) -> None:
    if kind is GGMLQuantizationType.F32:
        writer.add_tensor(name, weights)
    else:
        writer.add_tensor(name, quantize(weights, kind), raw_dtype=kind)
