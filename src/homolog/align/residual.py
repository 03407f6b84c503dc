"""A common frame for two residual streams, from the embeddings of shared tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array

__all__ = ["Frame", "fit_embedding_frame", "identity_frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """Projections ``a`` (d_a, t) and ``b`` (d_b, t): ``x @ a`` and ``y @ b`` are coordinates in one frame of t directions."""

    a: Array
    b: Array

    @property
    def rank(self) -> int:
        """Number of common directions."""
        return int(self.a.shape[1])


def identity_frame(width: int) -> Frame:
    """The frame that the files of two models of one width are in."""
    basis = np.eye(width, dtype=np.float32)
    return Frame(basis, basis)


def fit_embedding_frame(a: Array, b: Array) -> Frame | None:
    """The partial isometry that best carries A's token rows ``a`` (t, d_a) to B's ``b`` (t, d_b): orthogonal Procrustes.

    With ``aᵀ b = U S Vᵀ`` the coordinates are ``x U`` and ``y V`` (Schönemann 1966). Rows are centred first, because a direction common
    to all tokens says nothing of any. With fewer tokens than channels only the directions that the tokens span are kept, which costs a
    decomposition of t × t instead of d × d. ``None`` if fewer than eight directions remain.
    """
    if len(a) < 9 or len(a) != len(b):
        return None
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    if len(a) < min(a.shape[1], b.shape[1]):
        qa, ra = np.linalg.qr(a.T)
        qb, rb = np.linalg.qr(b.T)
        u, s, vt = np.linalg.svd(ra @ rb.T)
        u, vt = qa @ u, vt @ qb.T
    else:
        u, s, vt = np.linalg.svd(a.T @ b, full_matrices=False)
    kept = s > 1e-5 * s[0] if s.size and s[0] > 0 else np.zeros(len(s), dtype=bool)
    if int(kept.sum()) < 8:
        return None
    return Frame(
        np.asarray(u[:, : len(s)][:, kept], dtype=np.float32), np.asarray(vt[: len(s)][kept].T, dtype=np.float32)
    )
