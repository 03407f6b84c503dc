"""How the residual channels of B follow from those of A, where one is the other: only then are numbers comparable one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.align.residual import Frame, identity_frame
from homolog.checkpoint.base import Array

__all__ = ["Stream", "keep_stream", "read_stream"]

Indices = npt.NDArray[np.intp]

_ALONE = 0.4
"""Share of a row's length in its largest entry from which a map is one channel to one channel."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A frame that both residual streams share, and for every channel of B the channel of A that it is."""

    frame: Frame
    channels: Indices | None = None
    """(d_b,): -1 for a channel that is none of A's; ``None`` where the stream is in another basis."""
    signs: Array | None = None
    """(d_b,): 1 or -1."""

    @property
    def in_place(self) -> bool:
        """Whether every channel stands where it stood, with its sign."""
        if self.channels is None or self.signs is None:
            return False
        same = len(self.frame.a) == len(self.frame.b) and np.array_equal(self.channels, np.arange(len(self.frame.b)))
        return bool(same and (self.signs > 0).all())


def keep_stream(width: int) -> Stream:
    """The files' own frame, for two models of one width whose channels keep their places."""
    return Stream(identity_frame(width), np.arange(width), np.ones(width, dtype=np.float32))


def read_stream(frame: Frame) -> Stream:
    """What a fitted frame does with channels: which one is which, if each is one at all."""
    turn = frame.a @ frame.b.T
    square = turn * turn
    whole = np.maximum(square.sum(axis=0), 1e-12)
    best = square.argmax(axis=0)
    alone = square[best, np.arange(turn.shape[1])] / whole
    if float(np.median(alone)) < _ALONE * min(1.0, frame.rank / max(turn.shape)):
        return Stream(frame)
    mine = square.argmax(axis=1)[best] == np.arange(turn.shape[1])
    signs = np.sign(turn[best, np.arange(turn.shape[1])]).astype(np.float32)
    channels, signs = np.where(mine, best, -1), np.where(signs == 0, np.float32(1), signs)
    known = np.flatnonzero(mine)
    exact_a, exact_b = (
        np.zeros((turn.shape[0], len(known)), np.float32),
        np.zeros((turn.shape[1], len(known)), np.float32),
    )
    exact_a[channels[known], np.arange(len(known))] = signs[known]
    exact_b[known, np.arange(len(known))] = 1.0
    return Stream(Frame(exact_a, exact_b), channels, signs)
