"""The two sketches under comparison, and randomness that is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from homolog.probes.indices import Rngs
from homolog.roles.role import Space
from homolog.sketch.sketch import Sketch, TokenRows

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

    @property
    def same_width(self) -> bool:
        """Whether the residual streams are equally wide, however many of their channels were read."""
        return self.a.anatomy.dims.width == self.b.anatomy.dims.width

    @property
    def no_frame(self) -> str | None:
        """Why rows over the residual stream cannot be compared as they are kept, if they cannot."""
        if not self.same_width:
            return "the residual streams differ in width, so the files share no frame"
        if self.a.frame != self.b.frame:
            return "the sketches hold different projections of their rows, so the rows share no frame"
        return None

    @property
    def turned(self) -> Pair | None:
        """The pair in coordinates that a rotation of a residual stream does not change up to the fit of a frame.

        The pair itself where rows are kept as read; ``None`` where a sketch holds none.
        """
        if not self.a.frame and not self.b.frame and self.a.turned is None and self.b.turned is None:
            return self
        return Pair(self.a.turned, self.b.turned, self.seed) if self.a.turned and self.b.turned else None

    def tables(self, key: str) -> tuple[TokenRows | None, TokenRows | None]:
        """One token table of A and of B: ``embed``, ``unembed`` or ``project``."""
        return self.a.tokens.get(key), self.b.tokens.get(key)

    def lacking(self, key: str, title: str) -> dict[str, str]:
        """What to say of a table that only one of the two has; nothing if neither has it."""
        first, second = self.tables(key)
        return {} if first is second else {title: f"only {'B' if first is None else 'A'} has one"}
