"""What the report and the terminal say: every identifier of the comparison object in plain words.

An identifier that is not listed is shown as it stands, with its underscores as spaces, so a newer object still reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from homolog.report.format import clean
from homolog.report.language import t, translate

__all__ = [
    "ASSUMPTIONS",
    "GLOSSARY",
    "INITIALISATION",
    "OPERATIONS",
    "PROBES",
    "QUESTIONS",
    "RELATIONS",
    "UNASKED",
    "VERDICTS",
    "say",
    "tell",
]

VERDICTS: Mapping[str, str] = {
    "identical": "Identical",
    "related": "Related",
    "partly_related": "Partly related",
    "shared_initialisation": "Shared initialisation",
    "independent": "Independent",
    "inconclusive": "Inconclusive",
}

FOUND = frozenset({"identical", "related", "partly_related"})
"""Verdicts that say that there is a relation."""

RELATIONS: Mapping[str, str] = {
    "a_to_b": "Direction: from A to B, by a step that cannot be undone.",
    "b_to_a": "Direction: from B to A, by a step that cannot be undone.",
    "common_ancestor": "Both descend from a third model.",
    "undirected": "Direction unknown: A from B, B from A and a common ancestor all look like this.",
}

ORDERS: Mapping[str, str] = {
    "a_to_b": "Direction open, but B did not come before A: A is an ancestor of B, or both descend from a third model.",
    "b_to_a": "Direction open, but A did not come before B: B is an ancestor of A, or both descend from a third model.",
}
"""What may be said where the direction is open and all facts exclude one order."""

PROBES: Mapping[str, str] = {
    "ffn.rows": "Neurons, by their weights",
    "ffn.rows.aligned": "Neurons, spaces aligned",
    "ffn.profiles": "Neurons, by their profile",
    "channels.columns": "Channels, by the embedding",
    "channels.profiles": "Channels, by their profile",
    "values.rows": "Value dimensions of heads",
    "experts.rows": "Experts of a layer",
    "tokens.untrained": "Never-trained tokens",
}

QUESTIONS: Mapping[str, str] = {
    "ffn.rows": "Does a neuron of B look most like the neuron of A that has the same number?",
    "ffn.rows.aligned": "The same, after turning one model's inner space onto the other's by the embeddings alone.",
    "ffn.profiles": "The same, by lengths and angles that survive any rotation of the model's inner space.",
    "channels.columns": "Does a channel of B say the same of every word as the channel of A that has the same number?",
    "channels.profiles": "The same, by how strongly every matrix of every layer uses the channel.",
    "values.rows": "Does a value dimension of B look most like the one of A that has the same number?",
    "experts.rows": "Does an expert of B look most like the expert of A that has the same number?",
    "tokens.untrained": "Tokens that training never shows keep their random start. Do both models hold the same for each?",
}

OPERATIONS: Mapping[str, str] = {
    "continued_training": "Continued training",
    "layers_added": "Layers added",
    "layers_dropped": "Layers dropped",
    "layers_duplicated": "Layers duplicated",
    "ffn_widened": "FFN widened",
    "ffn_pruned": "FFN pruned",
    "width_pruned": "Width pruned",
    "upcycled": "Upcycled into experts",
    "experts_split": "Experts split",
    "frozen_core": "Frozen core",
    "merged": "Merged with another model",
    "quantised": "Quantised",
    "dequantised": "Quantisation undone",
    "requantised": "Quantised in another way",
    "vocabulary_changed": "Vocabulary changed",
    "units_permuted": "Units reordered",
    "units_split": "Units split",
    "gates_flipped": "Gates flipped",
    "heads_permuted": "Attention heads reordered",
    "heads_pruned": "Attention heads pruned",
    "heads_added": "Attention heads added",
    "values_mixed": "Values mixed inside heads",
    "values_permuted": "Value dimensions reordered",
    "residual_permuted": "Channels reordered",
    "residual_rotated": "Inner space rotated",
    "units_permuted_and_residual_rotated": "Units reordered and inner space rotated, both at once",
    "rescaled": "Weights rescaled",
    "low_rank_update": "Low-rank update",
    "renamed": "Tensors renamed",
    "washed": "Trained on deliberately dirty data",
    "distilled": "Distillation",
    "merged_in_small_part": "Merged in, a small part only",
    "retrained_until_lost": "Retrained until nothing is left",
}

INITIALISATION: Mapping[str, str] = {
    "trained_together": "Training is shared, not only the starting point",
    "initialisation_only": "Only the starting point is shared",
    "undecided": "Undecided: a shared starting point is not excluded",
    "not_asked": "Not asked",
}

EVIDENCE: Mapping[str, str] = {
    "gain_correlation": "Norm gains, correlation over channels (they start constant)",
    "bias_correlation": "Biases, correlation (they start constant)",
    "profile_log10_p": "Profiles, log10 p (nearly constant at the start)",
    "body_agreement": "Units that agree in every vector, in the frame of the bodies",
    "aligned_agreement": "Units that agree in every vector, in the better of two frames",
    "token_cosine": "Frequent tokens, cosine",
    "untrained_token_cosine": "Never-trained tokens, cosine",
    "token_ratio": "Likeness of frequent tokens over that of never-seen ones",
}

EXHIBITS: Mapping[str, str] = {"q": "Query", "k": "Key", "v": "Value", "o": "Output"}

KINDS: Mapping[str, str] = {
    "fixed_points": "equal index",
    "fixed_points_within": "equal index, head by head or class by class",
    "lis": "in order",
}

FRAMES: Mapping[str, str] = {
    "none": "needs none",
    "identity": "as stored",
    "embedding": "aligned by the embedding",
    "body": "aligned by the units",
}

SPACES: Mapping[str, str] = {
    "layers": "{n} layers",
    "width": "{n} channels",
    "ffn": "{n} FFN units",
    "vocab": "{n} tokens",
    "heads": "{n} heads",
    "kv_heads": "{n} key-value heads",
    "head_dim": "head size {n}",
    "experts": "{n} experts",
}

GLOSSARY: Mapping[str, str] = {
    "unit": "One entry of an axis whose order means nothing: a neuron, a channel, an expert.",
    "index": "The number that a unit happens to have in its layer. Training gives it no meaning, but a copy keeps it.",
    "FFN": "Feed-forward network: the part of a layer that holds most neurons.",
    "channel": "One dimension of the inner space (residual stream) that all layers read from and write to.",
    "profile": "Lengths and angles of a unit's own weights. Rotating the inner space leaves them as they are.",
    "match": "A unit of A and a unit of B that are each other's nearest. Only such pairs are counted.",
    "p-value": "How often chance alone would do at least this well if one model had been trained without the other. "
    "It is not the probability that the model is derived.",
    "log10 p": "The p-value as a power of ten: −9 means one in a billion.",
    "null hypothesis": "What is assumed for the sake of the test: that the two were trained without each other.",
    "exchangeable": "Could be put in any other order with nothing changed: then no unit has a reason to have its index.",
    "in order": "The longest run of matches whose indices rise together: for models of different width.",
    "shared initialisation": "Both models began from the same random numbers and were then trained separately.",
    "norm gain": "One learned factor per channel. All of them start at the same constant.",
    "distillation": "Training a model on what another one answers. It copies behaviour, not weights.",
    "bank": "Models known to be independent of each other, and how far every two of them agree: what chance looks like where no exact "
    "test is left.",
    "frame": "A choice of axes for the inner space. Only in one frame can two models be laid over each other.",
    "expert": "One of several FFNs of a layer; every word passes through a few of them only.",
    "low rank": "Held by few directions, as what an adapter (LoRA) adds.",
    "digest": "A fingerprint of the bytes that were read: other bytes, other digest.",
}

UNASKED = "Not asked: a relation was found."

_ORDERED = (
    "The order of units had a meaning",
    "The p-values rest on units that could as well stand in another order. Show that both models were sorted, or laid out by "
    "one rule, along the axis in question, and that test falls. homolog looks for such order and leaves those groups out; it "
    "may have missed one.",
)
_FILE = (
    "Another file",
    "The result is about the bytes with the digests below. Show that the files are not what their names say.",
)
_FAULT = (
    "A fault in homolog",
    "Run the command below again, or check one layer by hand: match units by cosine, count how many mutual matches have equal "
    "index, and compare with 1/k!.",
)

ASSUMPTIONS: tuple[tuple[str, str], ...] = (
    _ORDERED,
    (
        "The same random start",
        "Two trainings from one seed agree in their indices without one descending from the other. Show the seeds and the logs of "
        "both trainings from scratch, and compare each with its own step-0 weights.",
    ),
    (
        "A common ancestor",
        "Two children of a third model look like parent and child. Name the ancestor and compare both with it.",
    ),
    ("The other direction", "Unless a direction is stated above, nothing here says who came first."),
    _FILE,
    _FAULT,
)
"""What would show a relation wrong."""

START_ASSUMPTIONS: tuple[tuple[str, str], ...] = (
    (
        "Training in common",
        "If one was trained on from the other after only a few steps, training had left little to share. Compare later checkpoints, "
        "or read more of the weights.",
    ),
    _ORDERED,
    _FILE,
    _FAULT,
)
"""What would show a shared initialisation wrong."""


def say(words: Mapping[str, str], identifier: str) -> str:
    """The words for an identifier in the language that is spoken, or the identifier itself made readable."""
    known = words.get(identifier)
    return t(known) if known else clean(identifier, 120).replace("_", " ")


def tell(text: str | None, longest: int = 1000) -> str:
    """A sentence that the comparison brings, in the language that is spoken and safe to read; empty if there is none."""
    return clean(translate(text or ""), longest)
