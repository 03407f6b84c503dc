"""What a GGUF file says of its model: the sizes under the names that a hub's config gives them, and the tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from homolog.checkpoint.base import TokenTable
from homolog.checkpoint.extent import Extent
from homolog.errors import IncompleteCheckpoint, MalformedCheckpoint

__all__ = ["check_pieces", "describe_blocks", "read_facts", "read_tokens"]

_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "rope.freq_base": "rope_theta",
}
_GENERAL = {"general.architecture": "model_type", "general.name": "name", "general.file_type": "file_type"}
_GATED_QUERIES = frozenset(["qwen3next", "qwen35", "qwen35moe"])
"""Their queries are stored with a gate each, so that the rows are no heads."""


def read_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by the names of a hub's config; one that differs from layer to layer is left out, as a config has one number for it."""
    architecture = metadata.get("general.architecture")
    facts: dict[str, Any] = {
        name: metadata[key] for key, name in _GENERAL.items() if isinstance(metadata.get(key), str | int)
    }
    for key, name in _SIZES.items():
        value = metadata.get(f"{architecture}.{key}")
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            facts[name] = value
    if f"{architecture}.attention.kv_lora_rank" in metadata:  # latent attention: these sizes are those of the latents
        facts.pop("num_key_value_heads", None)
        facts.pop("head_dim", None)
    if architecture in _GATED_QUERIES:
        facts.pop("num_attention_heads", None)
    return facts


def read_tokens(metadata: Mapping[str, Any]) -> TokenTable | None:
    """The tokenizer's tokens, or ``None`` where the file has none."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not _is_strings(tokens) or not tokens:
        return None
    kinds, merges = metadata.get("tokenizer.ggml.token_type"), metadata.get("tokenizer.ggml.merges")
    model = metadata.get("tokenizer.ggml.model")
    return TokenTable(
        model=model if isinstance(model, str) else "",
        tokens=tokens,
        kinds=kinds.astype(np.int64) if isinstance(kinds, np.ndarray) and len(kinds) == len(tokens) else None,
        merges=merges if _is_strings(merges) else None,
    )


def check_pieces(files: Sequence[Path], pieces: Sequence[Mapping[str, Any]], tensors: int) -> None:
    """The pieces of a split model must be all of them, in order, and hold as many tensors as they say.

    Raises `IncompleteCheckpoint` where a piece is missing, `MalformedCheckpoint` where one is of another model.
    """
    if len(pieces) < 2:
        return
    for place, (file, piece) in enumerate(zip(files, pieces, strict=True)):
        number, count = piece.get("split.no"), piece.get("split.count")
        if number != place or count != len(pieces):
            found = f"piece {number} (from 0) of {count}"
            raise MalformedCheckpoint(
                file, at="metadata split.no", found=found[:200], expected=f"piece {place} of {len(pieces)}"
            )
    stated = pieces[0].get("split.tensors.count", tensors)
    if stated != tensors:
        raise IncompleteCheckpoint(
            files[0], at="metadata split.tensors.count", found=f"{tensors} tensors", expected=str(stated)[:100]
        )


def describe_blocks(extents: Mapping[str, Extent]) -> list[str]:
    """How the tensors are quantised, in words; nothing if none is."""
    kinds = Counter(extent.info.dtype for extent in extents.values() if extent.info.lattice)
    counts = [f"{count} as {kind}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))]
    return [f"quantised tensors: {', '.join(counts)}"] if counts else []


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, bytes) for item in value)
