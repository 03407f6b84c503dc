"""The two sketches under comparison, and randomness that is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from homolog.probes.indices import Rngs
from homolog.roles.role import Space
from homolog.sketch.sketch import Sketch

__all__ = ["Pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A (the reference) and B (the suspect) as sketched, with the seed of everything random."""

    a: Sketch
    b: Sketch
    seed: int

    def rngs(self, *purpose: object) -> Rngs:
        """Generators for one test, independent of each other and of every other test's."""
        return lambda role: np.random.default_rng([self.seed, crc32(repr((*purpose, role)).encode())])

    def ordered(self, space: Space) -> str | None:
        """Why the axis is ordered by design in *both* models, if it is: one exchangeable side is enough for an exact test."""
        first, second = (sketch.anatomy.traits.ordered.get(space) for sketch in (self.a, self.b))
        return first if first and second else None
