"""What is done to trained models to make derived cases: recipes of the lab's numpy operations, by the name that the table shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.lab import decoys, disguises, quantise, widening
from homolog.lab.operations import OPERATIONS
from homolog.lab.registry import is_defined
from homolog.lab.shape import Shape

__all__ = ["MERGE_RECIPES", "Step", "list_recipes"]

Step = Mapping[str, Any]

# importing these registers their operations
assert OPERATIONS.keys() >= {*disguises.DISGUISES, *decoys.__all__, *widening.__all__, quantise.quantise.__name__}

MERGE_RECIPES: Mapping[str, Step] = {
    "merged_linear": {"kind": "linear", "coefficients": [0.5, 0.5]},
    "merged_slerp": {"kind": "slerp", "t": 0.5},
    "merged_task_arithmetic": {"kind": "task_arithmetic", "scale": 0.5},
    "merged_ties": {"kind": "ties", "density": 0.3},
    "merged_dare": {"kind": "dare", "drop": 0.5, "seed": 1},
}
"""Merges of two descendants of one base; for the last three the base is the third."""


def list_recipes(shape: Shape, unused: Sequence[int]) -> dict[str, tuple[Step, ...]]:
    """The recipes that a model of this shape allows; ``unused`` are rows of its embedding that stand for tokens no text contains.

    A recipe with an operation that is not defined for the model's family is left out.
    """
    moe, seed = bool(shape.experts), 1
    half, every = shape.ffn // 2, list(range(shape.layers))
    middle = shape.layers // 2
    permuted = {"kind": "permute_units", "seed": seed}
    rotated = {"kind": "rotate_residual", "seed": seed}
    overwritten = {"kind": "overwrite_rows", "rows": list(unused), "seed": seed}
    split = {"kind": "split_units", "seed": seed}
    hidden = (
        *(() if moe else (split,)),
        permuted,
        {"kind": "permute_heads", "seed": seed},
        {"kind": "mix_values", "seed": seed},
        {"kind": "rescale", "seed": seed},
        rotated,
    )
    grown = {
        "flipped": {"kind": "flip_gates", "share": 0.6, "seed": seed},
        "flipped_quietly": {"kind": "flip_gates", "share": 0.5, "quiet": 0.03, "seed": seed},
        "drowned": {"kind": "add_decoys", "pairs": 256, "length": 1.5, "seed": seed},
        "buried": {"kind": "bury_units", "groups": shape.kv_heads, "noise": 10.0, "seed": seed},
    }
    recipes: dict[str, tuple[Step, ...]] = {
        "units_permuted": (permuted,),
        "heads_permuted": ({"kind": "permute_heads", "seed": seed},),
        "residual_permuted": ({"kind": "permute_residual", "seed": seed},),
        "signs_flipped": ({"kind": "flip_signs", "seed": seed},),
        "norms_folded": ({"kind": "fold_norms"},),
        "residual_rotated": (rotated,),
        "rescaled": ({"kind": "rescale", "seed": seed},),
        "values_mixed": ({"kind": "mix_values", "seed": seed},),
        "rows_overwritten": (overwritten,),
        "residual_padded": ({"kind": "pad_residual", "seed": seed},),
        "renamed": ({"kind": "rename"},),
        "units_permuted_and_residual_rotated": (permuted, rotated),
        "fully_disguised": hidden,
        "fully_disguised_rows_overwritten": (*hidden, overwritten),
        **{f"{name}_and_fully_disguised": (step, *hidden, overwritten) for name, step in grown.items()},
        "noise_30": ({"kind": "add_noise", "relative": 0.3, "seed": seed},),
        "layers_dropped": ({"kind": "keep_layers", "layers": [i for i in every if i != middle]},),
        "layers_duplicated": ({"kind": "keep_layers", "layers": [*every[:-1], *every[1:]]},),
        "layers_inserted": ({"kind": "insert_layers", "before": [middle, shape.layers], "seed": seed},),
        "vocabulary_extended": ({"kind": "extend_vocabulary", "tokens": 16, "seed": seed},),
        **{
            f"quantised_{format_}": ({"kind": "quantise", "format": format_},)
            for format_ in ("int8", "int4", "fp8", "nf4")
        },
    }
    recipes |= {
        "experts_permuted": ({"kind": "permute_experts", "seed": seed},),
        "units_split": (split,),
        "ffn_pruned": ({"kind": "prune_ffn", "units": half},),
        "ffn_widened": ({"kind": "widen_ffn", "units": half, "seed": seed},),
        "ffn_interleaved": ({"kind": "widen_ffn", "units": half, "interleave": True, "seed": seed},),
        "upcycled": ({"kind": "upcycle", "experts": 4, "chosen": 2, "seed": seed, "noise": 0.1},),
    }
    return {
        name: steps for name, steps in recipes.items() if all(is_defined(step["kind"], shape.family) for step in steps)
    }
