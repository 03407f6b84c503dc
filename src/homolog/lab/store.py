"""Writing a lab model as the hub stores it, bf16 safetensors with its config, and reading it back."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from homolog.errors import UsageError
from homolog.lab.corpus import Encoder
from homolog.lab.shape import Shape, Weights

__all__ = ["load_model", "load_truth", "round_weights", "save_model", "save_weights"]


def round_weights(weights: Weights) -> Weights:
    """The weights as bf16 keeps them."""
    return {name: tensor.astype(ml_dtypes.bfloat16).astype(np.float32) for name, tensor in weights.items()}


def save_model(folder: Path, shape: Shape, weights: Weights, tokenizer: Encoder, truth: dict[str, Any]) -> None:
    """Write weights, config, tokenizer and ``truth.json`` as a whole or not at all.

    Raises ``UsageError`` where they cannot be written, as on a full disk; nothing half-written stays.
    """
    partial = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_weights(partial, shape, weights)
        tokenizer.save(partial)
        text = json.dumps(truth, indent=1, ensure_ascii=False) + "\n"
        (partial / "truth.json").write_text(text, encoding="utf-8")
        if folder.is_dir():
            shutil.rmtree(folder)
        partial.replace(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: not written: {error.strerror or error}; the next call goes on from here"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_weights(folder: Path, shape: Shape, weights: Weights) -> None:
    """Write weights and config alone."""
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start, blocks = 0, []
    for name in sorted(weights):
        block = weights[name].astype(ml_dtypes.bfloat16).tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(weights[name].shape),
            "data_offsets": [start, start + len(block)],
        }
        start += len(block)
        blocks.append(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = folder / "model.safetensors.part"
    partial.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))
    partial.replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=1) + "\n", encoding="utf-8")


def load_truth(folder: Path) -> dict[str, Any]:
    """The truth record of a finished model."""
    try:
        record: dict[str, Any] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder}: no finished lab model there; build it first") from None
    except ValueError as error:
        raise UsageError(f"{folder / 'truth.json'}: not JSON: {error}") from None
    return record


def load_model(folder: Path) -> tuple[Shape, Weights]:
    """Shape and weights of a finished model."""
    kept = load_truth(folder)["shape"]
    shape = Shape(**{field.name: kept[field.name] for field in fields(Shape) if field.name in kept})
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    weights: Weights = {}
    for name, entry in header.items():
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        block = np.frombuffer(raw[start:stop], dtype=ml_dtypes.bfloat16)
        weights[name] = block.reshape(entry["shape"]).astype(np.float32)
    return shape, weights
