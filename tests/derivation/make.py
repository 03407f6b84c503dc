"""Models made from those of the zoo, for tests of the map."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from homolog.lab.merges import apply_merge
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.sketch.vocabulary import read_vocabulary

ZOO = Path(__file__).parents[1] / "zoo"


def derive(name: str, folder: Path, *steps: dict[str, Any]) -> tuple[Path, list[dict[str, Any]]]:
    """A model of the zoo after steps of the lab; and the facts of each."""
    shape, weights = load_model(ZOO / name)
    facts = []
    for step in steps:
        outcome = apply_operation(shape, weights, step)
        shape, weights = outcome.shape, outcome.weights
        facts.append(outcome.facts or {})
    return save(name, folder, shape, weights), facts


def merge(kind: str, names: list[str], folder: Path, **arguments: Any) -> Path:
    """A merge of models of the zoo."""
    models = [load_model(ZOO / name) for name in names]
    weights = apply_merge(kind, [tensors for _, tensors in models], **arguments)
    return save(names[0], folder, models[0][0], weights)


def move_on(name: str, folder: Path, *, seed: int, change: float = 0.1, factor: float = 0.9437) -> Path:
    """What training does, in numpy: every matrix decays and drifts, but for rows of tokens that no text contains, which only decay."""
    rng = np.random.default_rng(seed)
    shape, weights = load_model(ZOO / name)
    vocabulary = read_vocabulary(ZOO / name)
    assert vocabulary is not None
    still = [vocabulary.ids[token] for token in vocabulary.untrained]
    moved = {}
    for key, tensor in weights.items():
        if tensor.ndim < 2:
            moved[key] = tensor
            continue
        drift = change * tensor.std() * rng.standard_normal(tensor.shape).astype(np.float32)
        if "embed" in key:
            drift[still] = 0.0
        moved[key] = np.float32(factor) * tensor + drift
    return save(name, folder, shape, moved)


def save(name: str, folder: Path, shape: Any, weights: Any) -> Path:
    """Weights in a folder, with the tokenizer of a model of the zoo."""
    save_weights(folder, shape, weights)
    shutil.copy(ZOO / name / "tokenizer.json", folder / "tokenizer.json")
    return folder
