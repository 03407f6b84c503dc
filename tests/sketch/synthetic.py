"""A checkpoint that draws its rows when they are asked for: the shapes of a large model without its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint, Meter, TensorInfo


def qwen_shapes(layers: int, width: int, ffn: int, kv: int, vocab: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2 model."""
    table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        table |= {
            f"{at}input_layernorm.weight": (width,),
            f"{at}self_attn.q_proj.weight": (width, width),
            f"{at}self_attn.q_proj.bias": (width,),
            f"{at}self_attn.k_proj.weight": (kv, width),
            f"{at}self_attn.k_proj.bias": (kv,),
            f"{at}self_attn.v_proj.weight": (kv, width),
            f"{at}self_attn.v_proj.bias": (kv,),
            f"{at}self_attn.o_proj.weight": (width, width),
            f"{at}post_attention_layernorm.weight": (width,),
            f"{at}mlp.gate_proj.weight": (ffn, width),
            f"{at}mlp.up_proj.weight": (ffn, width),
            f"{at}mlp.down_proj.weight": (width, ffn),
        }
    return table | {"model.norm.weight": (width,), "lm_head.weight": (vocab, width)}


QWEN_14B = qwen_shapes(layers=48, width=5120, ffn=13824, kv=1024, vocab=152064)
"""Qwen2.5-14B's."""

CONFIG_14B = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


class DrawnCheckpoint(Checkpoint):
    """Every row is drawn from its name and number, rounded to bf16."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], config: dict[str, object], seed: int = 0) -> None:
        self.path, self.format, self.config = Path("drawn"), "safetensors", config
        self.tensors = {
            name: TensorInfo(name, shape, "BF16", 2 * int(np.prod(shape))) for name, shape in sorted(shapes.items())
        }
        self.files, self.folder, self.meter, self.notes = (), None, Meter(), ()
        self._seed = seed

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        shape = self.tensors[name].shape
        stop = shape[0] if stop is None else stop
        draw = np.random.Generator(np.random.SFC64([self._seed, crc32(name.encode()), start]))
        rows = draw.standard_normal((stop - start, *shape[1:]), dtype=np.float32) * np.float32(0.02)
        rows += np.float32("norm" in name)
        return (rows.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        return np.concatenate([self.read_rows(name, row, row + 1) for row in ids] or [self.read_rows(name, 0, 0)])

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        return self.read_rows(name, start, stop).tobytes()

    def close(self) -> None:
        """Nothing is open."""
