"""Every probe over one pair of sketches, in the frames that can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from homolog.align.residual import Frame, fit_embedding_frame
from homolog.derivation.layers import LayerOrigin, map_layers
from homolog.examination.examined import Examined, evidence_of
from homolog.probes.channels import find_shared_table, probe_channel_profiles, probe_columns
from homolog.probes.clones import find_clones
from homolog.probes.experts import probe_experts
from homolog.probes.ffn import FfnResult, probe_aligned_rows, probe_profiles, probe_rows
from homolog.probes.finding import NOT_ALIGNED, Finding
from homolog.probes.initialisation import Initialisation, weigh_initialisation
from homolog.probes.overwritten import withhold_overwritten
from homolog.probes.pair import Pair
from homolog.probes.untrained import probe_untrained
from homolog.probes.values import probe_values
from homolog.sketch.anchors import Anchors
from homolog.verdict import RELATED

__all__ = ["examine_pair", "on_ffn"]

_WIDE = 1024
"""Residual channels from which on fitting a frame takes longer than everything else."""


def examine_pair(
    pair: Pair, anchors: Anchors, identical: Callable[[Pair], bool], count: Callable[[Finding], Finding]
) -> Examined:
    """All probes of one pair of sketches; ``identical`` is asked only where the indices agree, ``count`` counts the planned tests."""
    clones = (find_clones(pair.a.units), find_clones(pair.b.units))
    shared_table = find_shared_table(pair)
    rows = probe_rows(pair, clones)
    profiles = probe_profiles(pair, clones)
    turned = pair.turned
    frame, no_frame = _fit_frame(turned, rows.finding, shared_table)

    def in_frames(body: Frame | str) -> tuple[FfnResult, Finding]:
        return (
            probe_aligned_rows(turned or pair, clones, frame, no_frame, body=body),
            probe_untrained(pair, anchors, frame, no_frame, shared_table, body=body),
        )

    aligned, untrained = in_frames(NOT_ALIGNED)
    mapped = _choose_map(rows, aligned, profiles)
    layers = mapped.layers(pair)
    tests = (
        rows.finding,
        aligned.finding,
        profiles.finding,
        probe_columns(pair, shared_table),
        probe_channel_profiles(pair, _layers_for_channels(pair, profiles), shared_table),
        probe_values(pair, layers),
        probe_experts(pair),
        untrained,
    )

    def conclude(tests: Sequence[Finding]) -> Examined:
        counted = [count(finding) for finding in tests]
        untrained, warnings = withhold_overwritten(pair, counted[-1], related=evidence_of(tuple(counted)).ffn_agrees)
        findings = (*counted[:-1], untrained)
        origins = map_layers(pair, on_ffn(findings))
        agrees = evidence_of(findings).agrees()
        return Examined(
            findings=findings,
            initialisation=_weigh(pair, findings, origins, layers) if agrees else Initialisation.not_asked(),
            identical=agrees and identical(pair),
            pair=pair,
            layers=layers,
            blocks=mapped.blocks,
            origins=origins,
            embedding=frame,
            warnings=warnings,
        )

    def again(body: Frame | str) -> Examined:
        aligned, untrained = in_frames(body)
        return conclude((tests[0], aligned.finding, *tests[2:-1], untrained))

    return replace(conclude(tests), again=again)


def _choose_map(rows: FfnResult, aligned: FfnResult, profiles: FfnResult) -> FfnResult:
    """The map of layers by the frame in which the indices of FFN rows agree, or else in which rows are more alike.

    Where a stream was turned, the frame of the files tells nothing.
    """
    mapped = [result for result in (rows, aligned) if result.blocks is not None]
    agreeing = next((result for result in mapped if evidence_of((result.finding,)).agrees()), None)
    if agreeing is not None:
        return agreeing
    return max(mapped, key=FfnResult.likeness, default=profiles if profiles.blocks is not None else rows)


def _layers_for_channels(pair: Pair, profiles: FfnResult) -> Mapping[int, int]:
    """A map that does not depend on which channel is which: layer by layer at equal depth, else by unit profiles over whole rows."""
    depths = {sketch.anatomy.dims.layers for sketch in (pair.a, pair.b)}
    whole = all(block.up.shape[1] == sketch.anatomy.dims.width for sketch in (pair.a, pair.b) for block in sketch.units)
    if len(depths) > 1 and whole:
        return profiles.layers(pair)
    return {layer: layer for layer in range(min(depths))}


def _weigh(
    pair: Pair, findings: tuple[Finding, ...], origins: Sequence[LayerOrigin], layers: Mapping[int, int]
) -> Initialisation:
    """Over the layers of B whose origin was found, if any was: what new layers hold says nothing of how the old ones were trained."""
    profiles = next(finding for finding in findings if finding.probe == "ffn.profiles")
    stored = evidence_of(findings).agrees(("ffn.rows", "channels.columns", "channels.profiles", "values.rows"))
    recognised = {origin.b: origin.a for origin in origins if origin.a is not None}
    return weigh_initialisation(pair, recognised or layers, profiles, channels_agree=stored)


def on_ffn(findings: Sequence[Finding]) -> list[Finding]:
    """Those that are on FFN units."""
    return [finding for finding in findings if finding.probe.startswith("ffn.")]


def _fit_frame(pair: Pair | None, rows: Finding, shared_table: str | None) -> tuple[Frame | None, str]:
    """The frame of the embeddings, or why there is none. It costs a decomposition, so large pairs do without where none is needed."""
    if shared_table:
        return None, shared_table
    if pair is None:
        return None, "a sketch without a token embedding holds no directions to fit a frame to"
    large = any(block.up.shape[1] > _WIDE for block in pair.a.units)
    if large and rows.log10_p is not None and rows.log10_p <= 2 * RELATED:
        return None, "not needed: the frame of the files already decides"
    for key in ("embed", "unembed"):
        a, b = pair.tables(key)
        if a is not None and b is not None and not a.flaw and not b.flaw:
            frame = fit_embedding_frame(a.ordinary, b.ordinary)
            return frame, "too few shared tokens for a frame"
    return None, "no token embedding to fit a frame to"
