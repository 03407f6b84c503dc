"""Embeddings: more rows, other rows, none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homolog.errors import UsageError
from homolog.lab.parts import table_names
from homolog.lab.registry import EVERY, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["extend_vocabulary", "reset_embeddings", "swap_vocabulary"]


@register(EVERY)
def extend_vocabulary(shape: Shape, weights: Weights, *, tokens: int, seed: int) -> Outcome:
    """Append ``tokens`` rows to the embedding and unembedding: the mean row plus noise of the rows' own deviation.

    Keeps the logits of the old tokens.
    """
    if tokens < 1:
        raise UsageError(f"extend_vocabulary: tokens {tokens}, expected at least 1")
    rng = np.random.default_rng(seed)
    changed = dict(weights)
    for name in table_names(weights):
        rows = weights[name]
        new = rows.mean(0) + 0.5 * rows.std(0) * rng.standard_normal((tokens, shape.width))
        changed[name] = np.concatenate([rows, new.astype(np.float32)])
    longer = replace(shape, vocab=shape.vocab + tokens)
    return Outcome(longer, changed, frozenset(table_names(weights)), {"new_tokens": tokens})


@register(EVERY)
def swap_vocabulary(shape: Shape, weights: Weights, *, tokens: int, seed: int) -> Outcome:
    """Embeddings for a tokenizer of ``tokens`` ids: every row is drawn around the mean row with the rows' deviation; the body is kept."""
    if tokens < 1:
        raise UsageError(f"swap_vocabulary: tokens {tokens}, expected at least 1")
    rng = np.random.default_rng(seed)
    tables = table_names(weights)
    changed = dict(weights)
    for name in tables:
        rows = weights[name]
        changed[name] = (rows.mean(0) + rows.std(0) * rng.standard_normal((tokens, shape.width))).astype(np.float32)
    return Outcome(replace(shape, vocab=tokens), changed, frozenset(tables), {"tokens": tokens, "kept_rows": 0})


@register(EVERY)
def reset_embeddings(shape: Shape, weights: Weights, *, seed: int, std: float = 0.02) -> Outcome:
    """Embedding and unembedding back to random numbers of deviation ``std``, as before any training; the body is kept."""
    rng = np.random.default_rng(seed)
    tables = table_names(weights)
    new = {name: rng.normal(0.0, std, weights[name].shape).astype(np.float32) for name in tables}
    return Outcome(shape, weights | new, frozenset(tables), {"reset": tables})
