"""HuRef's invariant terms (arXiv 2312.04828, NeurIPS 2024).

With X the embeddings of rare tokens, for each of the last two layers the three matrices X W_Qᵀ W_K Xᵀ, X W_Vᵀ W_Oᵀ Xᵀ and X W_1ᵀ W_2ᵀ Xᵀ
(weights as stored, ``(out, in)``), which no permutation or rotation of the residual stream changes; each is standardised as a whole, and
the cosine of all of them put end to end is the similarity (ICS). As in the authors' code: 4,096 tokens, and for gated FFNs W_1 is
gate ∘ up, entry by entry, which a rotation does change.

Assumed here: the authors rank tokens by their frequency in a corpus; without one, the rarest are the ordinary shared tokens of highest
id, since byte-pair merges are learned in order of frequency. Grouped keys and values are repeated for the heads that use them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homolog.arena.methods.base import Method, Model, NotApplicable, shared_tokens
from homolog.arena.methods.norm_gains import cosine
from homolog.checkpoint.base import Array
from homolog.roles.role import Role

__all__ = ["HUREF", "compare_terms", "invariant_terms"]

_TOKENS = 4096
_LAYERS = 2


def invariant_terms(x: Array, q: Array, k: Array, v: Array, o: Array, first: Array, second: Array) -> list[Array]:
    """The three terms of a layer, each ``(tokens, tokens)``; all matrices are ``(units, residual)``, ``o`` and ``second`` transposed so."""
    return [(x @ left.T) @ (x @ right.T).T for left, right in ((q, k), (v, o), (first, second))]


def compare_terms(a: Sequence[Array], b: Sequence[Array]) -> float:
    """Cosine of the standardised terms put end to end."""
    return cosine(*(np.stack([_standardise(term) for term in terms]) for terms in (a, b)))


def _standardise(term: Array) -> Array:
    spread = float(term.std(ddof=1))
    return np.asarray((term - term.mean()) / spread if spread > 0 else term * 0, dtype=np.float32)


def _terms(model: Model, tokens: Sequence[int]) -> list[Array]:
    x, terms = model.embedding()[list(tokens)], []
    if model.layers < _LAYERS:
        raise NotApplicable("fewer than two layers")
    for layer in range(model.layers - _LAYERS, model.layers):
        first = model.read(Role("ffn.up", layer=layer))
        if model.anatomy.traits.gated:
            first = first * model.read(Role("ffn.gate", layer=layer))
        q, k, v, o = (model.attention(kind, layer) for kind in "qkvo")
        terms += invariant_terms(x, q, k, v, o, first, model.read(Role("ffn.down", layer=layer)))
    return terms


def _similarity(a: Model, b: Model) -> float:
    tokens_a, tokens_b = shared_tokens(a, b)
    return compare_terms(_terms(a, tokens_a[-_TOKENS:]), _terms(b, tokens_b[-_TOKENS:]))


HUREF = Method(
    name="huref",
    citation="Zeng et al. 2024, HuRef, arXiv 2312.04828",
    access="weights and tokenizer",
    statistic="cosine of invariant terms",
    compute=_similarity,
)
