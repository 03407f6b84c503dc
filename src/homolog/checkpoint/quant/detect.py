"""Finds the quantised matrices of a checkpoint, by the names and kinds of its tensors, and says where config.json says otherwise.

The tensors decide: config.json settles only what they leave open (the bits of MLX's words, whether GPTQ's zeros are stored less one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.quant.blocks4 import find_blocks4
from homolog.checkpoint.quant.crosswise import find_crosswise
from homolog.checkpoint.quant.decoded import DecodedCheckpoint
from homolog.checkpoint.quant.fp4 import find_fp4
from homolog.checkpoint.quant.hqq import find_hqq
from homolog.checkpoint.quant.layout import Layout
from homolog.checkpoint.quant.scaled import find_scaled
from homolog.checkpoint.quant.survey import Survey
from homolog.checkpoint.quant.words import find_mlx, find_packed
from homolog.checkpoint.wording import list_names
from homolog.errors import MalformedCheckpoint

__all__ = ["decode_quantised"]

_FINDERS: tuple[Callable[[Survey], Iterator[Layout]], ...] = (
    find_crosswise,
    find_packed,
    find_mlx,
    find_blocks4,
    find_hqq,
    find_fp4,
    find_scaled,
)
_TRACES = ("qweight", "scales", "W_q", "absmax", "SCB", "scale", "_scale")
"""Last segments that some format writes beside its codes; others end in ``_scale``, ``_scale_inv``, ``_packed`` or ``_blocks``."""
_ENDS = ("_scale", "_scale_inv", "_packed", "_blocks")
_BESIDE = frozenset(
    [
        *(
            "input_scale",
            "input_zero_point",
            "input_global_scale",
            "input_scale_ub",
            "output_scale",
            "activation_scale",
        ),
        *("k_scale", "v_scale", "q_scale", "prob_scale", "kv_cache_scaling_factor"),
        *("weight_format", "weight_shape", "bits", "g_idx"),
    ]
)
"""Tensors that quantised checkpoints hold beside their weights: ranges of activations and of the cache, and marks of the format."""
_SAME = {
    "fp8": {"fp8", "modelopt", "fbgemm_fp8", "compressed-tensors", "fouroversix", "finegrained_fp8", "quark"},
    "modelopt": {"modelopt", "modelopt_fp4"},
    "mxfp4": {"mxfp4"},
    "gptq": {"gptq", "marlin", "gptq_marlin", "auto-round", "autoround"},
    "awq": {"awq", "awq_marlin", "auto-round", "autoround", "intel/auto-round"},
    "compressed-tensors": {"compressed-tensors", "fp8"},
    "bitsandbytes": {"bitsandbytes"},
    "torchao": {"torchao"},
    "quanto": {"quanto"},
    "hqq": {"hqq"},
    "mlx": {"mlx", ""},
}
"""What config.json may call a layout."""


def decode_quantised(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself if nothing in it is quantised; else one that offers each quantised matrix under its own name, decoded.

    Reads no weights, but a small stored setting of each kind of matrix where a format keeps its shapes so (bitsandbytes, HQQ,
    ``pack-quantized``). Raises ``MalformedCheckpoint`` where the tensors of a format do not fit each other.
    """
    survey = Survey(checkpoint)
    layouts: dict[str, Layout] = {}
    if any(leaf in _TRACES or leaf.endswith(_ENDS) for leaf in survey.leaves()):
        for find in _FINDERS:
            for layout in find(survey):
                if layout.name in layouts or (layout.name in checkpoint.tensors and layout.name not in layout.parts):
                    raise _twice(checkpoint, layout)
                layouts[layout.name] = layout
                survey.claimed.update(layout.parts)
    if not layouts:
        notes = _unfounded(survey)
        return DecodedCheckpoint(checkpoint, {}, frozenset(), notes) if notes else checkpoint
    beside = {place + leaf for leaf in _BESIDE for place in survey.places(leaf)}
    return DecodedCheckpoint(checkpoint, layouts, frozenset(beside | survey.claimed), _notes(survey, layouts, beside))


def _twice(checkpoint: Checkpoint, layout: Layout) -> MalformedCheckpoint:
    return MalformedCheckpoint(
        checkpoint.locate(layout.parts[0]),
        at=f"tensor {layout.name}",
        found=f"it twice: also as {list_names(layout.parts)}",
        expected="each matrix once, quantised or not",
    )


def _notes(survey: Survey, layouts: dict[str, Layout], beside: set[str]) -> list[str]:
    notes = []
    kinds = Counter((layout.method, layout.lattice) for layout in layouts.values())
    for (method, lattice), count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])):
        matrices = "1 tensor is" if count == 1 else f"{count} tensors are"
        notes.append(f"{matrices} quantised ({method}): {lattice}")
    methods = sorted({layout.method for layout in layouts.values()})
    stated = survey.hints.method
    if not stated:
        notes.append("config.json says nothing of the quantisation; the tensors show it")
    elif not any(stated in _SAME[method] for method in methods):
        notes.append(
            f"config.json says quant_method {list_names([stated])!r}, the tensors are laid out as {', '.join(methods)}"
        )
    bits = {int(lattice[3:4]) for _, lattice in kinds if lattice.startswith("int") and lattice[3:4].isdigit()}
    if survey.hints.bits and bits and survey.hints.bits not in bits:
        found = ", ".join(str(one) for one in sorted(bits))
        notes.append(f"config.json says {survey.hints.bits} bits, the tensors have {found}; the tensors are believed")
    if "gptq" in methods and survey.hints.version not in ("gptq", "gptq_v2"):
        notes.append("config.json does not say how GPTQ's zeros are stored; they are taken as stored less one (v1)")
    crosswise = [layout for layout in layouts.values() if layout.transposed]
    if crosswise:
        notes.append(_cost(crosswise))
    if beside:
        notes.append(
            f"{len(beside)} tensors are of activations or marks of the format, not weights: {list_names(sorted(beside))}"
        )
    return notes


def _cost(crosswise: list[Layout]) -> str:
    if all(layout.method == "mxfp4" for layout in crosswise):
        return f"{len(crosswise)} stacks of experts lie output first: units are read as rows"
    widest = max(layout.shape[-1] for layout in crosswise)
    return f"{len(crosswise)} matrices keep units as columns: units are read in slabs of residual channels, up to {widest} units at once"


def _unfounded(survey: Survey) -> list[str]:
    stated = survey.hints.method
    if not stated:
        return []
    return [
        f"config.json says quant_method {list_names([stated])!r}, but no tensor is quantised in a layout that homolog knows"
    ]
