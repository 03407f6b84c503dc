"""Hide a large checkpoint of make_checkpoints.py by everything that is free, to time the deep comparison with it.

    python -m benchmarks.make_checkpoints FOLDER
    python -m benchmarks.disguise_checkpoint FOLDER
    homolog compare FOLDER/base FOLDER/disguised --deep

Writes FOLDER/disguised, the model ``related`` with the units of every FFN, the heads of every layer and the residual channels in
another order, the residual stream rotated, norm gains folded, and ups and values rescaled. With ``--overwrite`` the rows of tokens
that no text contains are replaced by noise as well, and FOLDER/overwritten is written. One tensor is held at a time.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from benchmarks.make_checkpoints import Shape, untrained_tokens, write_checkpoint

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.lab.disguises import draw_rotation

Array = npt.NDArray[np.float32]

_ROWS = 4096
"""Rows of a token table that are held at a time."""


@dataclass(frozen=True)
class Disguised:
    """Tensors of a llama after the disguise, read from the file as they are asked for."""

    shape: Shape
    model: Checkpoint
    turn: Array
    """(width, width): the rotation of the stream, and the new order of its channels in one."""
    seed: int
    overwrite: bool

    def blocks(self, name: str, shape: tuple[int, ...]) -> Iterator[Array]:
        """The tensor in blocks of whole rows."""
        if name.endswith("norm.weight"):
            yield np.ones(shape, dtype=np.float32)
        elif name in ("model.embed_tokens.weight", "lm_head.weight"):
            yield from self._table(name, shape[0])
        else:
            yield self._matrix(name)

    def _table(self, name: str, rows: int) -> Iterator[Array]:
        gain = self.model.read_rows("model.norm.weight") if name == "lm_head.weight" else np.float32(1)
        never = untrained_tokens(rows)
        for start in range(0, rows, _ROWS):
            stop = min(start + _ROWS, rows)
            block = (self.model.read_rows(name, start, stop) * gain) @ self.turn
            hidden = np.flatnonzero(never[start:stop])
            if self.overwrite and hidden.size:
                noise = np.random.default_rng([self.seed, start]).standard_normal((hidden.size, block.shape[1]))
                block[hidden] = (block.std() * noise).astype(np.float32)
            yield np.asarray(block, dtype=np.float32)

    def _matrix(self, name: str) -> Array:
        match = re.fullmatch(r"(model\.layers\.(\d+)\.)(self_attn|mlp)\.(\w+)_proj\.weight", name)
        assert match is not None
        place, layer, part, kind = match[1], int(match[2]), match[3], match[4]
        weights = self.model.read_rows(name)
        if kind in ("o", "down"):
            weights = self.turn.T @ weights
        else:
            norm = "input_layernorm" if part == "self_attn" else "post_attention_layernorm"
            weights = np.asarray(
                (weights * self.model.read_rows(f"{place}{norm}.weight")) @ self.turn, dtype=np.float32
            )
        rng = np.random.default_rng([self.seed, layer, part == "mlp"])
        if part == "mlp":
            order, scale = rng.permutation(self.shape.ffn), _draw_scale(rng, self.shape.ffn)
            if kind == "down":
                return np.asarray(weights[:, order] / scale, dtype=np.float32)
            return np.asarray(weights[order] * (scale[:, None] if kind == "up" else 1), dtype=np.float32)
        groups = rng.permutation(self.shape.kv_heads)
        query = np.arange(self.shape.width).reshape(self.shape.kv_heads, -1)[groups].ravel()
        value = np.arange(self.shape.kv_heads * self.shape.head_dim).reshape(self.shape.kv_heads, -1)[groups].ravel()
        scale = _draw_scale(rng, len(value))
        if kind == "o":
            each = scale.reshape(self.shape.kv_heads, 1, -1)
            times = np.broadcast_to(each, (self.shape.kv_heads, len(query) // len(value), self.shape.head_dim)).ravel()
            return np.asarray(weights[:, query] / times, dtype=np.float32)
        if kind == "v":
            return np.asarray(weights[value] * scale[:, None], dtype=np.float32)
        return np.asarray(weights[query if kind == "q" else value], dtype=np.float32)


def _draw_scale(rng: np.random.Generator, size: int) -> Array:
    return np.exp(0.5 * rng.standard_normal(size)).astype(np.float32)


def main() -> None:
    """Write the disguised checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where make_checkpoints.py wrote; another 4.1 GB")
    parser.add_argument("--source", default="related", help="which of the models there")
    parser.add_argument("--overwrite", action="store_true", help="replace the rows of never-trained tokens too")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    target = options.folder / ("overwritten" if options.overwrite else "disguised")
    if target.exists():
        sys.exit(f"{target}: exists, kept")
    partial = options.folder / f"{target.name}.partial"
    if partial.exists():
        sys.exit(f"{partial} is left over from an interrupted run: remove it first")
    with open_checkpoint(options.folder / options.source) as model:
        shape = Shape(layers=int(model.config["num_hidden_layers"]))
        turn = draw_rotation(np.random.default_rng(options.seed), shape.width).astype(np.float32)
        write_checkpoint(partial, Disguised(shape, model, turn, options.seed, options.overwrite), 2_000_000_000)
    partial.rename(target)
    print(target)


if __name__ == "__main__":
    main()
