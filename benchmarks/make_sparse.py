"""Make checkpoints of the exact shapes of very large models, of which only the rows that a comparison reads take room on the disk.

    python benchmarks/make_sparse.py FOLDER qwen2.5-14b
    python benchmarks/make_sparse.py FOLDER deepseek-v3

Each writes ``base``, ``related`` (base, trained on) and ``independent`` into ``FOLDER/NAME``: shards, index, config and tokenizer as
published, 29.5 GB and 689 GB by their sizes, about 1 GB each on a file system that stores holes as holes. The rows that are filled are
drawn as those of make_checkpoints.py are; everything else is zero, so these stand for reading little and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the script runs from anywhere, installed or not

from benchmarks.make_checkpoints import Array, Shape, Weights, _stream, write_tokenizer

_TOKENS = 1024
"""Rows filled at the beginning and at the end of the token tables."""
_SHARD = 4_900_000_000

Tensor = tuple[str, str, tuple[int, ...]]
"""Name, dtype, shape."""


@dataclass(frozen=True)
class Model:
    """A published model, as far as its files tell."""

    shape: Shape
    config: dict[str, object]
    tensors: tuple[Tensor, ...]
    rows: int
    """Leading rows of every matrix that are filled."""
    experts: int = 0
    """Routed experts whose rows are filled."""


def qwen2_5_14b() -> Model:
    """Qwen/Qwen2.5-14B: 48 layers of width 5120, 29.5 GB in bf16."""
    shape = Shape(layers=48, width=5120, ffn=13824, vocab=152064, heads=40, kv_heads=8)
    tensors: list[Tensor] = []
    for name, size in shape.tensors().items():
        tensors.append((name, "BF16", size))
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            tensors.append((name.replace("weight", "bias"), "BF16", size[:1]))
    config = {**shape.config(), "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    config |= {"max_position_embeddings": 131072, "rope_theta": 1000000.0}
    return Model(shape, config, tuple(sorted(tensors)), rows=256)


def deepseek_v3() -> Model:
    """deepseek-ai/DeepSeek-V3: 61 layers of width 7168 and one more for multi-token prediction, 689 GB in block FP8."""
    width, dense, expert, experts, heads = 7168, 18432, 2048, 256, 128
    shape = Shape(layers=61, width=width, ffn=dense, vocab=129280, heads=heads, kv_heads=heads)
    tensors: list[Tensor] = []

    def scaled(name: str, rows: int, columns: int) -> None:
        blocks = (math.ceil(rows / 128), math.ceil(columns / 128))
        tensors.append((f"{name}.weight", "F8_E4M3", (rows, columns)))
        tensors.append((f"{name}.weight_scale_inv", "F32", blocks))

    def plain(name: str, *size: int, dtype: str = "BF16") -> None:
        tensors.append((name, dtype, size))

    def ffn(name: str, units: int) -> None:
        scaled(f"{name}.gate_proj", units, width)
        scaled(f"{name}.up_proj", units, width)
        scaled(f"{name}.down_proj", width, units)

    plain("model.embed_tokens.weight", shape.vocab, width)
    plain("lm_head.weight", shape.vocab, width)
    plain("model.norm.weight", width)
    for layer in range(shape.layers + 1):
        at = f"model.layers.{layer}"
        plain(f"{at}.input_layernorm.weight", width)
        plain(f"{at}.post_attention_layernorm.weight", width)
        scaled(f"{at}.self_attn.q_a_proj", 1536, width)
        plain(f"{at}.self_attn.q_a_layernorm.weight", 1536)
        scaled(f"{at}.self_attn.q_b_proj", heads * 192, 1536)
        scaled(f"{at}.self_attn.kv_a_proj_with_mqa", 576, width)
        plain(f"{at}.self_attn.kv_a_layernorm.weight", 512)
        scaled(f"{at}.self_attn.kv_b_proj", heads * 256, 512)
        scaled(f"{at}.self_attn.o_proj", width, heads * 128)
        if layer < 3:
            ffn(f"{at}.mlp", dense)
        else:
            plain(f"{at}.mlp.gate.weight", experts, width)
            plain(f"{at}.mlp.gate.e_score_correction_bias", experts, dtype="F32")
            ffn(f"{at}.mlp.shared_experts", expert)
            for number in range(experts):
                ffn(f"{at}.mlp.experts.{number}", expert)
        if layer == shape.layers:
            plain(f"{at}.embed_tokens.weight", shape.vocab, width)
            plain(f"{at}.enorm.weight", width)
            plain(f"{at}.hnorm.weight", width)
            plain(f"{at}.eh_proj.weight", width, 2 * width)
            plain(f"{at}.shared_head.norm.weight", width)
            plain(f"{at}.shared_head.head.weight", shape.vocab, width)
    config: dict[str, object] = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "hidden_size": width,
        "intermediate_size": dense,
        "moe_intermediate_size": expert,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "num_hidden_layers": shape.layers,
        "num_nextn_predict_layers": 1,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "vocab_size": shape.vocab,
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    }
    return Model(shape, config, tuple(sorted(tensors)), rows=64, experts=2)


@dataclass(frozen=True)
class Filled:
    """Draws the rows that are filled of one model's tensors."""

    model: Model
    weights: Weights

    def rows(self, name: str, dtype: str, size: tuple[int, ...]) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
        """Where a run of rows begins, and the rows as they are stored."""
        number = name.partition(".experts.")[2].partition(".")[0]
        if number and int(number) >= self.model.experts:
            return
        if dtype == "F32":
            # one scale for all blocks: FP8 then holds the numbers themselves, 256 times as large
            yield 0, np.full(size, 1 / 256 if name.endswith("scale_inv") else 0.0, dtype=np.float32)
            return
        spans = [(0, size[0])]
        if size[0] == self.model.shape.vocab:
            spans = [(0, _TOKENS), (size[0] - _TOKENS, size[0])]
        elif len(size) == 2:
            whole = name.endswith("mlp.gate.weight")  # the router
            spans = [(0, size[0] if whole else min(self.model.rows, size[0]))]
        for start, stop in spans:
            block = self._draw(name, size, start, stop)
            if dtype == "F8_E4M3":
                yield start, (block * 256).astype(ml_dtypes.float8_e4m3fn)
            else:
                yield start, block.astype(ml_dtypes.bfloat16)

    def _draw(self, name: str, size: tuple[int, ...], start: int, stop: int) -> Array:
        weights = self.weights
        draw, noise = (_stream(weights.seed, name, start), _stream(weights.seed, weights.drift, "drift", name, start))
        if name.endswith("norm.weight") or name in ("model.embed_tokens.weight", "lm_head.weight"):
            return weights._block(name, size, slice(start, stop), draw, noise)
        block: Array = draw.standard_normal((stop - start, *size[1:]), dtype=np.float32)
        block += np.float32(weights.drift) * noise.standard_normal(block.shape, dtype=np.float32)
        units = name.removesuffix(".weight").rpartition(".")[0]
        loud = np.exp(0.15 * _stream(weights.seed, units, "units").standard_normal(stop, dtype=np.float32))[start:]
        block *= np.float32(0.02) * loud.reshape(-1, *[1] * (block.ndim - 1))
        return block


def write_sparse(folder: Path, model: Model, weights: Weights) -> int:
    """Write shards, index, config and tokenizer; returns the bytes that the tensors would take."""
    folder.mkdir(parents=True)
    width = {"BF16": 2, "F8_E4M3": 1, "F32": 4}
    shards: list[list[Tensor]] = [[]]
    filled = total = 0
    for tensor in model.tensors:
        nbytes = width[tensor[1]] * math.prod(tensor[2])
        if filled and filled + nbytes > _SHARD:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += nbytes
        total += nbytes
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        index.update(dict.fromkeys((name for name, _, _ in shard), file))
        with (folder / file).open("wb") as out:
            _write_shard(out, shard, width, Filled(model, weights))
        print(f"\r{folder.name}: shard {number} of {len(shards)} ", end="", file=sys.stderr)
    print(file=sys.stderr)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(model.config, indent=1), encoding="utf-8")
    write_tokenizer(folder / "tokenizer.json", model.shape.vocab)
    return total


def _write_shard(out: BinaryIO, shard: list[Tensor], width: dict[str, int], filled: Filled) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, size in shard:
        start, end = end, end + width[dtype] * math.prod(size)
        header[name] = {"dtype": dtype, "shape": list(size), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
    origin = 8 + len(text)
    for name, dtype, size in shard:
        pitch = width[dtype] * math.prod(size[1:])
        for row, block in filled.rows(name, dtype, size):
            out.seek(origin + row * pitch)
            out.write(block.tobytes())
        origin += width[dtype] * math.prod(size)
    out.truncate(origin)


MODELS = {"qwen2.5-14b": qwen2_5_14b, "deepseek-v3": deepseek_v3}


def main() -> None:
    """Write the three checkpoints of one model and name their folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--drift", type=float, default=0.3, help="noise of the related model, relative to the weights")
    options = parser.parse_args()
    model = MODELS[options.model]()
    kinds = {
        "base": Weights(model.shape, seed=1),
        "related": Weights(model.shape, seed=1, drift=options.drift),
        "independent": Weights(model.shape, seed=2),
    }
    for name, weights in kinds.items():
        folder = options.folder / options.model / name
        if folder.exists():
            print(f"{folder}: exists, kept", file=sys.stderr)
            continue
        # a half-written checkpoint must never be taken for a whole one
        partial = folder.with_name(f"{name}.partial")
        if partial.exists():
            sys.exit(f"{partial} is left over from an interrupted run: remove it first")
        total = write_sparse(partial, model, weights)
        partial.rename(folder)
        print(f"{folder}  {total / 1e9:.2f} GB, {len(model.tensors)} tensors")


if __name__ == "__main__":
    main()
