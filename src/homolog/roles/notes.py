"""What a reader of an anatomy should know beside its roles, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from homolog.checkpoint.base import Checkpoint
from homolog.roles.fit import Fit
from homolog.roles.names import shorten
from homolog.roles.sizes import Sizes

__all__ = ["describe", "spans"]


def describe(checkpoint: Checkpoint, chosen: Fit, sizes: Sizes, same_layout: Sequence[str]) -> tuple[str, ...]:
    """The notes of an anatomy, the weightiest first."""
    return tuple(
        [
            *_family(checkpoint, chosen, same_layout),
            *_unembedding(checkpoint, chosen, sizes),
            *_mixtures(chosen),
            *_differing(sizes),
            *chosen.family.notes,
        ]
    )


def spans(numbers: Iterable[int]) -> str:
    """Layer numbers as ``0, 2–5, 9``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


def _family(checkpoint: Checkpoint, chosen: Fit, same_layout: Sequence[str]) -> list[str]:
    family, notes = chosen.family, []
    hint = checkpoint.config.get("model_type")
    hint = shorten(hint) if isinstance(hint, str) else None
    if same_layout:
        by = f"{_says(checkpoint)} so" if hint in family.model_types else "it is the first by preference"
        notes.append(f"{', '.join(same_layout)} and {family.id} store the same layout; taken as {family.id}: {by}")
    if hint is not None and family.model_types and hint not in family.model_types:
        notes.append(f"{_says(checkpoint)} model_type {hint!r}; the tensors are laid out as {family.id}")
    return notes


def _says(checkpoint: Checkpoint) -> str:
    return "the file says" if checkpoint.format == "gguf" else "config.json says"


def _unembedding(checkpoint: Checkpoint, chosen: Fit, sizes: Sizes) -> list[str]:
    kinds = {(role.kind, role.part) for role in chosen.views}
    if ("embed.token", "weight") not in kinds:
        return []
    if ("unembed", "weight") not in kinds:
        if checkpoint.config.get("tie_word_embeddings") is True:
            return ["no unembedding is stored: config.json ties it to the token embedding"]
        return ["no unembedding is stored: it is tied to the token embedding, or the model has no language head"]
    rows, columns = sizes.get("vocab", Counter()), sizes.get("unembed", Counter())
    if rows.keys() != columns.keys():
        return [f"the unembedding has {max(columns)} tokens, the embedding {max(rows)}"]
    return []


def _mixtures(chosen: Fit) -> list[str]:
    routed: dict[int, set[int]] = {}
    shared: set[int] = set()
    dense: set[int] = set()
    for role in chosen.views:
        if role.kind == "ffn.up" and role.part == "weight":
            if role.expert >= 0:
                routed.setdefault(role.layer, set()).add(role.expert)
            elif role.shared:
                shared.add(role.layer)
            else:
                dense.add(role.layer)
    if not routed:
        return []
    by_count: dict[int, list[int]] = {}
    for layer, experts in routed.items():
        by_count.setdefault(len(experts), []).append(layer)
    notes = [f"layers {spans(layers)}: {count} routed experts each" for count, layers in sorted(by_count.items())]
    if shared:
        notes.append(f"layers {spans(shared)}: a shared expert beside them")
    if dense:
        notes.append(f"layers {spans(dense)}: a dense FFN")
    return notes


def _differing(sizes: Sizes) -> list[str]:
    words = {
        "ffn": "units of the FFN",
        "expert_ffn": "units of an expert",
        "shared_ffn": "units of the shared expert",
        "query": "query dimensions",
        "kv": "key and value dimensions",
        "experts": "routed experts",
    }
    return [
        f"the number of {word} differs by layer: from {min(sizes[which])} to {max(sizes[which])}"
        for which, word in words.items()
        if len(sizes.get(which, ())) > 1
    ]
