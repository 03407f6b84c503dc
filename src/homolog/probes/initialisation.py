"""Shared initialisation is not descent: what did training alone write, and do the two models agree on it?

Two models that started from the same random numbers (the same default seed, say) keep each other's indices without either having seen
the other. Norm gains and biases start constant, so agreement over channels in *them* was written by training. See docs/statistics.md for
the trainings on which the thresholds were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from homolog.align.matching import Matches, cosines, match_mutually, normal_scores
from homolog.checkpoint.base import Array
from homolog.probes.channels import common_roles
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair
from homolog.roles.role import Role

__all__ = ["DESCENT", "TABLES", "Initialisation", "weigh_initialisation"]

DESCENT = 0.70
"""Correlation of the gains of attention norms over channels from which on descent is supported."""

_GAINS, _BIASES = (0.47, DESCENT), (0.5, 0.75)
"""At most the first supports a shared initialisation only, at least the second descent; between them nothing is said."""

TABLES = 0.90
"""Cosine of trained token rows from which on a table goes back to the other one where no layer does. Runs of one start reach 0.70 on the
lineages that this was developed on; a table that was kept and trained on loses less than a tenth unless the training was long."""

_CLOSE = 0.4
"""|Cosine| of two channels' columns over the tokens from which they count as partners: 1 to 3 of 64 in independent models of
the zoo, 13 to 41 from one start, all 64 in descent."""

_FLAT = 1e-3
"""A gain vector whose spread is below this share of its mean carries nothing."""


@dataclass(frozen=True, slots=True)
class Initialisation:
    """Whether agreement of indices goes back to shared training or to shared random numbers only."""

    verdict: str
    """``trained_together``, ``initialisation_only``, ``undecided`` or ``not_asked``."""
    evidence: Mapping[str, float]
    text: str

    @property
    def compared(self) -> bool:
        """Whether gains or biases could be compared channel by channel."""
        return "gain_correlation" in self.evidence or "bias_correlation" in self.evidence

    @classmethod
    def not_asked(cls) -> Initialisation:
        """For pairs whose indices do not agree in the first place."""
        return cls("not_asked", {}, "The indices do not agree, so the question does not arise.")


def weigh_initialisation(
    pair: Pair, layers: Mapping[int, int], profiles: Finding, *, channels_agree: bool
) -> Initialisation:
    """Decide between descent and shared initialisation, for a pair whose indices agree.

    ``layers`` maps the layers of B that were recognised to their layers of A. ``channels_agree`` says whether channels, or rows in the
    frame of the files, agree by index: where they do not, the stream may be permuted, and channels are paired by the token table.
    Evidence, in the order in which it is used: the correlation over channels of the gains of attention norms, of biases if gains carry
    nothing, and the unit profiles if neither does. The cosine of trained token rows is given for information.
    """
    channels = None if channels_agree else _pair_channels(pair)
    known = [] if channels is None and not channels_agree else list(_correlations(pair, layers, channels))
    gains = _mean([r for role, r in known if role.kind == "norm.attn" and role.part == "weight"])
    biases = _mean([r for role, r in known if role.part == "bias"])
    evidence: dict[str, float] = {}
    if gains is not None:
        evidence["gain_correlation"] = gains
    if biases is not None:
        evidence["bias_correlation"] = biases
    if profiles.log10_p is not None:
        evidence["profile_log10_p"] = profiles.log10_p
    evidence.update(_token_cosines(pair))
    if gains is not None:
        return _decide("gains of the attention norms", gains, _GAINS, evidence)
    if biases is not None:
        return _decide("biases", biases, _BIASES, evidence)
    if profiles.log10_p is not None and profiles.log10_p <= -9.0:
        text = "No norm gain or bias can be compared; the profiles of the units, which training writes, agree by index."
        return Initialisation("trained_together", evidence, text)
    text = "No norm gain or bias can be compared, and the unit profiles are silent: shared training and shared random numbers look alike."
    return Initialisation("undecided", evidence, text)


def _decide(what: str, r: float, thresholds: tuple[float, float], evidence: Mapping[str, float]) -> Initialisation:
    if r >= thresholds[1]:
        text = f"The {what}, which start out constant and are written by training alone, agree over the channels (r = {r:.2f})."
        return Initialisation("trained_together", evidence, text)
    if r <= thresholds[0]:
        text = (
            f"The {what}, which start out constant and are written by training alone, hardly agree over the channels (r = {r:.2f}): "
            "the models share their first random numbers, not their training."
        )
        return Initialisation("initialisation_only", evidence, text)
    text = f"The {what} agree over the channels about as much as either explanation allows (r = {r:.2f})."
    return Initialisation("undecided", evidence, text)


def _pair_channels(pair: Pair) -> Matches | None:
    """Channels of A and B paired by their columns of the token table; ``None`` unless most have a close partner."""
    first, second = pair.tables("embed")
    if first is None or second is None or first.flaw or second.flaw or first.ordinary.shape != second.ordinary.shape:
        return None
    if not pair.same_width:
        return None
    x, y = (rows.ordinary - rows.ordinary.mean(axis=0) for rows in (first, second))
    matches = match_mutually(np.abs(cosines(x.T, y.T)), pair.rngs("pairing channels")("pair"))
    close = matches.similarity >= _CLOSE
    return (
        Matches(matches.a[close], matches.b[close], matches.similarity[close]) if 2 * close.sum() > x.shape[1] else None
    )


def _correlations(pair: Pair, layers: Mapping[int, int], channels: Matches | None) -> Iterator[tuple[Role, float]]:
    """For every channel vector that both models have, and that varies in both, the correlation of its normal scores.

    Channels are paired by ``channels``, or by their index if there are none.
    """
    if not pair.same_width:
        return
    for role_a, role_b in zip(*common_roles(pair, layers), strict=True):
        first, second = pair.a.channels.get(role_a), pair.b.channels.get(role_b)
        if first is None or second is None or len(first) != len(second):
            continue
        if channels is not None:
            first, second = first[channels.a], second[channels.b]
        if not (_varies(first) and _varies(second)):
            continue
        x, y = (normal_scores(vector[:, None])[:, 0].astype(np.float64) for vector in (first, second))
        yield role_b, float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _mean(correlations: list[float]) -> float | None:
    return float(np.mean(correlations)) if correlations else None


def _varies(vector: Array) -> bool:
    return bool(vector.std() > _FLAT * max(float(np.abs(vector.mean())), 1e-6))


def _token_cosines(pair: Pair) -> dict[str, float]:
    """Median cosine of ordinary and of never-trained token rows, in the frame of the files, each centred on its own mean."""
    first, second = pair.tables("embed")
    if first is None or second is None or first.ordinary.shape != second.ordinary.shape or not len(first.ordinary):
        return {}
    if not pair.same_width:
        return {}
    known = {"token_cosine": _median_cosine(first.ordinary, second.ordinary)}
    if len(first.untrained) >= 6 and not pair.no_frame:
        known["untrained_token_cosine"] = _median_cosine(first.untrained, second.untrained)
    return known


def _median_cosine(x: Array, y: Array) -> float:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
    cosine = np.einsum("ij,ij->i", x, y) / np.where(scale > 0, scale, 1.0)
    return float(np.median(cosine[np.isfinite(cosine)])) if np.isfinite(cosine).any() else 0.0
