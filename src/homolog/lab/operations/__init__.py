"""What can be done to a model short of training it: named, seeded steps, each a function of tensors.

An operation takes ``(shape, weights)`` and returns an `Outcome`. Those that say *keeps the function* change the logits by less than 1e-3
relative (tested); the rest need training afterwards. One module for each thing that is changed; importing this package registers them
all, the disguises, the widenings that hide and the quantisations with them, so that any recipe can name any operation.
"""

from __future__ import annotations

from homolog.lab import decoys, disguises, quantise, widening
from homolog.lab.operations import depth, experts, merging, norms, resetting, updates, vocabulary, washing, width
from homolog.lab.registry import OPERATIONS, Operation, Outcome, apply_operation

__all__ = ["MODULES", "OPERATIONS", "Operation", "Outcome", "apply_operation"]

MODULES = (
    depth,
    width,
    norms,
    experts,
    vocabulary,
    updates,
    resetting,
    washing,
    merging,
    disguises,
    widening,
    decoys,
    quantise,
)
"""In the order in which the documentation lists them."""
