"""All that is found out about a pair on the way to its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from homolog.align.layers import BlockMap
from homolog.align.residual import Frame
from homolog.derivation.bodies import SecondLook
from homolog.derivation.direction import Direction
from homolog.derivation.given import GivenModel
from homolog.derivation.layers import LayerOrigin, count_inherited
from homolog.derivation.mapping import ModelMap
from homolog.derivation.merges import Merge
from homolog.probes.finding import Finding
from homolog.probes.initialisation import Initialisation
from homolog.probes.pair import Pair
from homolog.verdict import Evidence

__all__ = ["NO_RELATION", "Examined", "evidence_of"]

NO_RELATION = "no relation was found"


@dataclass(frozen=True, slots=True)
class Examined:
    """All that the reading stages found."""

    findings: tuple[Finding, ...] = ()
    initialisation: Initialisation = field(default_factory=Initialisation.not_asked)
    identical: bool = False
    unresolved: str | None = None
    pair: Pair | None = None
    layers: Mapping[int, int] | None = None
    blocks: BlockMap | None = None
    origins: tuple[LayerOrigin, ...] = ()
    unread: tuple[str, str] = ("", "")
    """For A and for B, which layers were not read and why, in words."""
    again: Callable[[Frame | str], Examined] | None = None
    """The same pair examined with a body frame."""
    embedding: Frame | None = None
    look: SecondLook = field(default_factory=SecondLook)
    map: ModelMap = field(default_factory=lambda: ModelMap.missing(NO_RELATION))
    direction: Direction = field(default_factory=Direction)
    merge: Merge | None = None
    given: GivenModel | None = None
    warnings: tuple[str, ...] = ()
    """What kept a test from being trusted, in words."""

    @property
    def evidence(self) -> Evidence:
        """All that the verdict rests on."""
        return Evidence(
            self.findings,
            self.initialisation,
            count_inherited(self.origins),
            self.identical,
            self.unresolved,
            self.look.finding,
        )


def evidence_of(findings: tuple[Finding, ...]) -> Evidence:
    """What the findings alone support, before anything else was asked."""
    return Evidence(findings, Initialisation.not_asked(), None, identical=False)
