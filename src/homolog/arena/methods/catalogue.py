"""All methods of the arena, in the order of the table."""

from __future__ import annotations

from collections.abc import Sequence

from homolog.arena.methods.awm import AWM
from homolog.arena.methods.base import Method
from homolog.arena.methods.external import MODELDNA, PROVENANCE_KIT
from homolog.arena.methods.huref import HUREF
from homolog.arena.methods.independence import CONSTRAINED, MATCH_WEIGHTS
from homolog.arena.methods.norm_gains import NORM_GAINS
from homolog.arena.methods.ours import TIER_1, VERDICT
from homolog.arena.methods.polar import POLAR
from homolog.arena.methods.sampled_cosine import SAMPLED_COSINE
from homolog.arena.methods.spectra import SPECTRA
from homolog.arena.methods.std_curves import STD_CURVES
from homolog.errors import UsageError

__all__ = ["METHODS", "choose_methods"]

METHODS: tuple[Method, ...] = (
    VERDICT,
    TIER_1,
    STD_CURVES,
    NORM_GAINS,
    SAMPLED_COSINE,
    HUREF,
    SPECTRA,
    AWM,
    POLAR,
    CONSTRAINED,
    MATCH_WEIGHTS,
    MODELDNA,
    PROVENANCE_KIT,
)


def choose_methods(names: Sequence[str] | None) -> tuple[Method, ...]:
    """The methods of these names in the order of the table; all of them if none is named. Raises ``UsageError`` for an unknown name."""
    known = {method.name: method for method in METHODS}
    if unknown := [name for name in names or () if name not in known]:
        raise UsageError(f"no method {unknown[0]!r}; the arena knows {', '.join(known)}")
    return tuple(method for method in METHODS if not names or method.name in names)
