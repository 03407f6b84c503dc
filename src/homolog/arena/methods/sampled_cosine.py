"""Sampled-parameter cosine: the parameters' cosine similarity of HuRef's section 3, on a sample as modelDNA takes it.

All matrices of equal role and shape are sampled at the same seeded positions in both models, and the cosine of the samples put end to
end is taken. Assumed here: 4,096 positions a matrix; HuRef's own PCS takes all of them and modelDNA ranges of rows.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from homolog.arena.methods.base import Method, Model, NotApplicable
from homolog.arena.methods.norm_gains import cosine

__all__ = ["SAMPLED_COSINE"]

_SAMPLE = 4096


def _sampled_cosine(a: Model, b: Model) -> float:
    shapes = b.roles
    roles = [role for role, shape in a.roles.items() if len(shape) == 2 and shapes.get(role) == shape]
    if not roles:
        raise NotApplicable("no matrix of equal role and shape")
    samples: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for role in sorted(roles):
        size = int(np.prod(shapes[role]))
        chosen = np.random.default_rng(crc32(str(role).encode())).permutation(size)[:_SAMPLE]
        for sample, model in zip(samples, (a, b), strict=True):
            sample.append(model.read(role).ravel()[chosen])
    return cosine(np.concatenate(samples[0]), np.concatenate(samples[1]))


SAMPLED_COSINE = Method(
    name="sampled-cosine",
    citation="Zeng et al. 2024, HuRef (parameters' cosine similarity), arXiv 2312.04828; modelDNA, arXiv 2607.10617",
    access="weights",
    statistic="cosine of parameters at the same places",
    compute=_sampled_cosine,
)
