"""Make three large checkpoints to measure reading with: ``base``, ``related`` (base, trained on), ``independent``.

    python benchmarks/make_checkpoints.py FOLDER

Each is a llama-shaped model of 2.03 billion bf16 parameters in shards of 2 GB, with a config and a tokenizer. The
weights are drawn, not trained, but they have what a comparison meets in trained ones: unit norms that differ and go
together in gate, up and down; loud residual channels; embeddings that share meaning across independent models; norm
gains that look alike everywhere; tokens that no training ever touched. Everything is streamed in blocks, so memory
stays small; the same options give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_BLOCK = 1 << 23
"""Numbers drawn at a time."""
_MEANING = 64
"""Dimensions of token meaning that independent models share."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a llama."""

    layers: int = 28
    width: int = 2048
    ffn: int = 8192
    vocab: int = 65536
    heads: int = 32
    kv_heads: int = 16

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, in the order of the file."""
        kv = self.kv_heads * self.head_dim
        table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab, self.width)}
        for layer in range(self.layers):
            at = f"model.layers.{layer}."
            table[at + "input_layernorm.weight"] = (self.width,)
            table[at + "self_attn.q_proj.weight"] = (self.width, self.width)
            table[at + "self_attn.k_proj.weight"] = (kv, self.width)
            table[at + "self_attn.v_proj.weight"] = (kv, self.width)
            table[at + "self_attn.o_proj.weight"] = (self.width, self.width)
            table[at + "post_attention_layernorm.weight"] = (self.width,)
            table[at + "mlp.gate_proj.weight"] = (self.ffn, self.width)
            table[at + "mlp.up_proj.weight"] = (self.ffn, self.width)
            table[at + "mlp.down_proj.weight"] = (self.width, self.ffn)
        table["model.norm.weight"] = (self.width,)
        table["lm_head.weight"] = (self.vocab, self.width)
        return table

    def config(self) -> dict[str, object]:
        """The ``config.json`` of the model."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }


def _stream(*words: object) -> np.random.Generator:
    """A random stream of its own for every name, so that tensors can be drawn in any order."""
    return np.random.Generator(np.random.SFC64(zlib.crc32("/".join(map(str, words)).encode())))


def untrained_tokens(vocab: int) -> npt.NDArray[np.bool_]:
    """Tokens that occur in no text: bytes that UTF-8 cannot contain, and reserved tokens at the end."""
    never = np.zeros(vocab, dtype=bool)
    never[[3 + byte for byte in (0xC0, 0xC1, *range(0xF5, 0x100))]] = True
    never[-64:] = True
    return never


@dataclass(frozen=True)
class Weights:
    """Draws one model's tensors, block by block; a related model is the base's stream plus noise of size ``drift``."""

    shape: Shape
    seed: int
    drift: float = 0.0

    def blocks(self, name: str, shape: tuple[int, ...]) -> Iterator[Array]:
        """The tensor in blocks of whole rows."""
        rows = max(1, _BLOCK // math.prod(shape[1:]))
        draw, noise = _stream(self.seed, name), _stream(self.seed, self.drift, "drift", name)
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            yield self._block(name, shape, slice(start, start + count), draw, noise)

    def _block(
        self, name: str, shape: tuple[int, ...], rows: slice, draw: np.random.Generator, noise: np.random.Generator
    ) -> Array:
        size = (rows.stop - rows.start, *shape[1:])
        if name.endswith("norm.weight"):
            # the cosine of two models' gains is 0.99 without anything shared: their mean outweighs their spread
            gains = 1.0 + 0.1 * draw.standard_normal(size) + 0.03 * self.drift * noise.standard_normal(size)
            return np.asarray(gains, dtype=np.float32)
        block = draw.standard_normal(size, dtype=np.float32)
        scale = np.full(size[0], 0.02, dtype=np.float32)
        moved = np.full(size[0], self.drift, dtype=np.float32)
        if name.startswith(("model.embed_tokens", "lm_head")):
            trained = ~untrained_tokens(shape[0])[rows]
            block[trained] += self._meaning(name, rows)[trained]
            rank = np.arange(rows.start, rows.stop, dtype=np.float32)
            scale[trained] *= 0.7 + 0.6 * np.log1p(rank[trained]) / np.log(shape[0])
            moved[~trained] = 0.0
        else:
            scale *= self._row_scale(name, shape)[rows]
            block *= self._column_scale(name, shape)
        if self.drift:
            block += moved[:, None] * np.std(block) * noise.standard_normal(size, dtype=np.float32)
        return block * scale[:, None]

    def _meaning(self, name: str, rows: slice) -> Array:
        """What tokens mean, in this model's own directions."""
        own = _stream(self.seed, name, "directions").standard_normal((_MEANING, self.shape.width), dtype=np.float32)
        meaning = _stream("meaning").standard_normal((self.shape.vocab, _MEANING), dtype=np.float32)[rows]
        return np.asarray(meaning @ own / math.sqrt(_MEANING), dtype=np.float32)

    def _unit_scale(self, layer: str, kind: str) -> Array:
        """How loud each FFN unit is: mostly one factor for gate, up and down, and a part of their own."""
        shared = _stream(self.seed, layer, "units").standard_normal(self.shape.ffn, dtype=np.float32)
        own = _stream(self.seed, layer, "units", kind).standard_normal(self.shape.ffn, dtype=np.float32)
        return np.asarray(np.exp(0.15 * shared + 0.1 * own), dtype=np.float32)

    def _channel_scale(self) -> Array:
        """How loud each residual channel is; a few are very loud."""
        draw = _stream(self.seed, "channels")
        scale: Array = np.exp(0.1 * draw.standard_normal(self.shape.width, dtype=np.float32))
        scale[draw.choice(self.shape.width, 8, replace=False)] *= 4.0
        return scale

    def _row_scale(self, name: str, shape: tuple[int, ...]) -> Array:
        layer, _, kind = name.rpartition(".mlp.")
        if kind.startswith(("gate", "up")):
            return self._unit_scale(layer, kind)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            return np.asarray(self._channel_scale() / math.sqrt(2 * self.shape.layers), dtype=np.float32)
        own = _stream(self.seed, name, "rows").standard_normal(shape[0], dtype=np.float32)
        return np.asarray(np.exp(0.2 * own), dtype=np.float32)

    def _column_scale(self, name: str, shape: tuple[int, ...]) -> Array:
        layer, _, kind = name.rpartition(".mlp.")
        if kind.startswith("down"):
            return self._unit_scale(layer, kind)
        if name.endswith("o_proj.weight"):
            return np.ones(shape[1], dtype=np.float32)
        return np.asarray(1.0 / self._channel_scale(), dtype=np.float32)


def write_tokenizer(path: Path, vocab: int) -> None:
    """A byte-fallback tokenizer: three specials, 256 bytes, words, and reserved tokens at the end."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += [f"\u2581w{index}" for index in range(len(words), vocab - 64)]
    reserved = [f"<reserved_{index}>" for index in range(64)]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": index, "content": words[index], **special} for index in range(3)]
    added += [{"id": vocab - 64 + index, "content": word, **special} for index, word in enumerate(reserved)]
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "byte_fallback": True,
        "vocab": {word: index for index, word in enumerate(words + reserved)},
        "merges": [],
    }
    path.write_text(json.dumps({"version": "1.0", "added_tokens": added, "model": model}), encoding="utf-8")


class Source(Protocol):
    """Tensors of a llama, drawn or read."""

    @property
    def shape(self) -> Shape:
        """Its sizes."""

    def blocks(self, name: str, shape: tuple[int, ...]) -> Iterator[Array]:
        """A tensor in blocks of whole rows."""


def write_checkpoint(folder: Path, weights: Source, shard_bytes: int) -> int:
    """Write shards, index, config and tokenizer; returns the bytes of the tensors."""
    folder.mkdir(parents=True)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in weights.shape.tensors().items():
        if filled and filled + 2 * math.prod(shape) > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += 2 * math.prod(shape)
    total = sum(2 * math.prod(shape) for shard in shards for shape in shard.values())
    index: dict[str, str] = {}
    done, began = 0, time.monotonic()
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        index.update(dict.fromkeys(shard, file))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shard.items():
            start, end = end, end + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name, shape in shard.items():
                for block in weights.blocks(name, shape):
                    out.write(block.astype(ml_dtypes.bfloat16).tobytes())
                    done += 2 * block.size
                speed = done / 1e6 / (time.monotonic() - began)
                print(f"\r{folder.name}: {done / total:4.0%}  {speed:.0f} MB/s ", end="", file=sys.stderr)
    print(file=sys.stderr)
    index_text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
    (folder / "model.safetensors.index.json").write_text(index_text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(weights.shape.config(), indent=1), encoding="utf-8")
    write_tokenizer(folder / "tokenizer.json", weights.shape.vocab)
    return total


def main() -> None:
    """Write the three checkpoints and name their folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where to write; the checkpoints take 4.1 GB each")
    parser.add_argument("--layers", type=int, default=Shape.layers, help="fewer layers for a smaller file")
    parser.add_argument("--drift", type=float, default=0.3, help="noise of the related model, relative to the weights")
    parser.add_argument("--shard-gb", type=float, default=2.0)
    options = parser.parse_args()
    shape = Shape(layers=options.layers)
    models = {
        "base": Weights(shape, seed=1),
        "related": Weights(shape, seed=1, drift=options.drift),
        "independent": Weights(shape, seed=2),
    }
    for name, weights in models.items():
        folder = options.folder / name
        if folder.exists():
            print(f"{folder}: exists, kept", file=sys.stderr)
            continue
        # a half-written checkpoint must never be taken for a whole one
        partial = options.folder / f"{name}.partial"
        if partial.exists():
            sys.exit(f"{partial} is left over from an interrupted run: remove it first")
        total = write_checkpoint(partial, weights, int(options.shard_gb * 1e9))
        partial.rename(folder)
        print(f"{folder}  {total / 1e9:.2f} GB, {total // 2 / 1e9:.2f} billion parameters")


if __name__ == "__main__":
    main()
