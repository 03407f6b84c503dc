"""AWM: channels aligned by assignment, then unbiased CKA of W_Q and W_K (arXiv 2510.06738, ICLR 2026).

On the embeddings of shared tokens, the channels of the wider model are assigned to those of the other at the least total 1 - abs(cos),
which gives a permutation and signs. W_Q and W_K of the wider model are put into that frame. For every layer the unbiased linear CKA
(U-statistic of HSIC) of the two W_Q, with channels as samples, and of the two W_K; layers by number, or by assignment where the depths
differ; the similarity is the mean. As in the authors' code, z = (similarity - 0.00375) / 0.0028, their mean over 90 independent pairs
and their deviation. Head dimensions need no alignment: CKA does not change if they are rotated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from homolog.align.matching import unit_rows
from homolog.arena.methods.base import Method, Model, shared_tokens
from homolog.checkpoint.base import Array
from homolog.roles.role import Role

__all__ = ["AWM", "align_channels", "unbiased_cka"]

_MEAN, _DEVIATION = 0.00375, 0.0028


def align_channels(wide: Array, narrow: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """For each channel of ``narrow`` the channel of ``wide`` assigned to it, and the sign; both are ``(tokens, channels)``."""
    cosines = unit_rows(wide.T) @ unit_rows(narrow.T).T
    chosen, target = linear_sum_assignment(1.0 - np.abs(cosines))
    order = chosen[np.argsort(target)]
    return order, np.sign(cosines[order, np.arange(len(order))])


def unbiased_cka(x: Array, y: Array) -> float:
    """Linear CKA of ``(samples, features)`` with the unbiased estimator of HSIC (Song et al. 2007); 0 where one side has no variation."""
    first, second = _centred_gram(x), _centred_gram(y)
    scale = float((first * first).sum() * (second * second).sum())
    return float((first * second).sum() / np.sqrt(scale)) if scale > 1e-16 else 0.0


def _centred_gram(x: Array) -> npt.NDArray[np.float64]:
    gram = x.astype(np.float64) @ x.astype(np.float64).T
    n = len(gram)
    np.fill_diagonal(gram, 0.0)
    means = gram.sum(axis=0) / (n - 2)
    means -= means.sum() / (2 * (n - 1))
    gram -= means[:, None] + means[None, :]
    np.fill_diagonal(gram, 0.0)
    return gram


def _z(a: Model, b: Model) -> float:
    tokens_a, tokens_b = shared_tokens(a, b)
    embeddings = (a.embedding()[tokens_a], b.embedding()[tokens_b])
    if a.anatomy.dims.width >= b.anatomy.dims.width:
        wide, narrow, (order, signs) = a, b, align_channels(*embeddings)
    else:
        wide, narrow, (order, signs) = b, a, align_channels(*embeddings[::-1])
    aligned = [[matrix[:, order] * signs for matrix in _queries_and_keys(wide, layer)] for layer in range(wide.layers)]
    plain = [_queries_and_keys(narrow, layer) for layer in range(narrow.layers)]
    if len(aligned) == len(plain):
        similarity = np.mean([_similar(x, y) for x, y in zip(aligned, plain, strict=True)])
    else:
        table = np.array([[_similar(x, y) for y in plain] for x in aligned])
        similarity = table[linear_sum_assignment(-table)].mean()
    return float((similarity - _MEAN) / _DEVIATION)


def _queries_and_keys(model: Model, layer: int) -> list[Array]:
    return [model.read(Role(kind, layer=layer)) for kind in ("attn.q", "attn.k")]


def _similar(x: list[Array], y: list[Array]) -> float:
    return float(np.mean([unbiased_cka(first.T, second.T) for first, second in zip(x, y, strict=True)]))


AWM = Method(
    name="awm",
    citation="Zeng et al. 2025, AWM, arXiv 2510.06738",
    access="weights and tokenizer",
    statistic="z of the mean unbiased CKA",
    compute=_z,
)
