"""Comparing two checkpoints: open, resolve, plan, read, probe, decide."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from homolog.align.layers import BlockMap
from homolog.align.residual import Frame, fit_embedding_frame
from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.comparison import Comparison, ModelRecord
from homolog.derivation.identical import same_numbers
from homolog.derivation.layers import LayerOrigin, count_inherited, map_layers
from homolog.derivation.operations import find_direction, read_operations
from homolog.errors import UsageError
from homolog.probes.channels import find_shared_table, probe_channel_profiles, probe_columns
from homolog.probes.clones import find_clones
from homolog.probes.exhibits import background, gain_cosines, std_curves
from homolog.probes.experts import probe_experts
from homolog.probes.ffn import FfnResult, probe_aligned_rows, probe_profiles, probe_rows, usable_blocks
from homolog.probes.finding import Finding
from homolog.probes.initialisation import Initialisation, weigh_initialisation
from homolog.probes.pair import Pair
from homolog.probes.untrained import probe_untrained
from homolog.probes.values import probe_values
from homolog.provenance import Provenance, Run, Stopwatch
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy
from homolog.sketch.anchors import Anchors, choose_anchors
from homolog.sketch.plan import plan_reading
from homolog.sketch.stream import Progress, read_sketch
from homolog.sketch.token_table import vocabularies_of
from homolog.verdict import RELATED, Evidence, decide

__all__ = ["compare"]

_WIDE = 1024
"""Residual channels from which on fitting a frame takes longer than everything else."""

_IDENTITY_CHECK = 2**30
"""Pairs up to this many bytes are compared in full where every sampled number is equal; larger ones only if asked."""


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    seed: int = 0,
    units: int = 64,
    full: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Say whether the weights of ``b`` and ``a`` support common descent.

    ``a`` (the reference) and ``b`` (the suspect) are folders or weight files. ``seed`` settles everything random, ``units`` is how many
    units of every FFN are read of large checkpoints, ``full`` reads whole matrices of those too. ``progress`` is called with what is
    being done, the steps done and the steps in all.

    Raises CheckpointError for a checkpoint that cannot be read and UsageError for options out of range.
    """
    if units < 8 or seed < 0:
        raise UsageError(f"units is {units} and seed is {seed}; units must be at least 8 and seed at least 0")
    watch = Stopwatch()
    inputs = (os.fspath(a), os.fspath(b))
    provenance = Provenance.of(
        "compare",
        inputs,
        {"seed": seed, "units": units, "full": full},
        {"seed": 0, "units": 64, "full": False},
    )
    with open_checkpoint(a) as first, open_checkpoint(b) as second:
        models = (first, second)
        anatomies = (resolve(first), resolve(second))
        with np.errstate(all="ignore"):  # NaN and Inf of a broken checkpoint are reported by name, not by warning
            examined = _examine(models, anatomies, seed=seed, units=units, full=full, progress=progress or _silent)
        records = tuple(
            _record(name, model, anatomy) for name, model, anatomy in zip(inputs, models, anatomies, strict=True)
        )
    return _conclude(examined, records, provenance, watch.read())


@dataclass(frozen=True, slots=True)
class _Examined:
    """All that the reading stages found."""

    findings: tuple[Finding, ...] = ()
    initialisation: Initialisation = field(default_factory=Initialisation.not_asked)
    identical: bool = False
    unresolved: str | None = None
    pair: Pair | None = None
    layers: Mapping[int, int] | None = None
    blocks: BlockMap | None = None
    origins: tuple[LayerOrigin, ...] = ()


def _examine(
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    *,
    seed: int,
    units: int,
    full: bool,
    progress: Progress,
) -> _Examined:
    for name, anatomy in zip("AB", anatomies, strict=True):
        if anatomy.reason:
            return _Examined(unresolved=f"the architecture of {name} is not recognised: {anatomy.reason}")
        if anatomy.missing:
            return _Examined(unresolved=f"{name} lacks {', '.join(anatomy.missing[:3])}")
    known = vocabularies_of(*models)
    anchors = choose_anchors(*known, anatomies[0].dims.vocab, anatomies[1].dims.vocab)
    plans = plan_reading(*anatomies, max(model.nbytes for model in models), units, full)
    a = read_sketch(models[0], anatomies[0], plans[0], anchors.ordinary_a, anchors.untrained_a, progress)
    b = read_sketch(models[1], anatomies[1], plans[1], anchors.ordinary_b, anchors.untrained_b, progress)
    return _examine_pair(Pair(a, b, seed), anchors, lambda pair: _identical(models, anatomies, pair, full=full))


def _examine_pair(pair: Pair, anchors: Anchors, identical: Callable[[Pair], bool]) -> _Examined:
    """All probes of one pair of sketches; ``identical`` is asked only where the indices agree."""
    clones = (find_clones(pair.a.units), find_clones(pair.b.units))
    shared_table = find_shared_table(pair)
    rows = probe_rows(pair, clones)
    profiles = probe_profiles(pair, clones)
    turned = pair.turned
    frame, no_frame = _fit_frame(turned, rows.finding, shared_table)
    aligned = probe_aligned_rows(turned or pair, clones, frame, no_frame)
    mapped = next((result for result in (rows, aligned, profiles) if result.blocks is not None), rows)
    layers = mapped.layers(pair)
    findings = (
        rows.finding,
        aligned.finding,
        profiles.finding,
        probe_columns(pair, shared_table),
        probe_channel_profiles(pair, _layers_for_channels(pair, profiles), shared_table),
        probe_values(pair, layers),
        probe_experts(pair),
        probe_untrained(pair, anchors, frame, no_frame, shared_table),
    )
    origins = map_layers(pair, _on_ffn(findings))
    agrees = _evidence(findings).agrees()
    return _Examined(
        findings=findings,
        initialisation=_weigh(pair, findings, origins, layers) if agrees else Initialisation.not_asked(),
        identical=agrees and identical(pair),
        pair=pair,
        layers=layers,
        blocks=mapped.blocks,
        origins=origins,
    )


def _layers_for_channels(pair: Pair, profiles: FfnResult) -> Mapping[int, int]:
    """A map that does not depend on which channel is which: layer by layer at equal depth, else by unit profiles over whole rows."""
    depths = {sketch.anatomy.dims.layers for sketch in (pair.a, pair.b)}
    whole = all(block.up.shape[1] == sketch.anatomy.dims.width for sketch in (pair.a, pair.b) for block in sketch.units)
    if len(depths) > 1 and whole:
        return profiles.layers(pair)
    return {layer: layer for layer in range(min(depths))}


def _evidence(findings: tuple[Finding, ...]) -> Evidence:
    return Evidence(findings, Initialisation.not_asked(), None, identical=False)


def _weigh(
    pair: Pair, findings: tuple[Finding, ...], origins: Sequence[LayerOrigin], layers: Mapping[int, int]
) -> Initialisation:
    """Over the layers of B whose origin was found, if any was: what new layers hold says nothing of how the old ones were trained."""
    profiles = next(finding for finding in findings if finding.probe == "ffn.profiles")
    stored = _evidence(findings).agrees(("ffn.rows", "channels.columns", "channels.profiles", "values.rows"))
    recognised = {origin.b: origin.a for origin in origins if origin.a is not None}
    return weigh_initialisation(pair, recognised or layers, profiles, channels_agree=stored)


def _on_ffn(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.probe.startswith("ffn.")]


def _conclude(examined: _Examined, records: Sequence[ModelRecord], provenance: Provenance, run: Run) -> Comparison:
    pair = examined.pair
    origins = examined.origins
    inherited = count_inherited(origins)
    evidence = Evidence(examined.findings, examined.initialisation, inherited, examined.identical, examined.unresolved)
    verdict = decide(evidence)
    direction, facts = find_direction(pair, origins) if pair and verdict.found else (None, ())
    return Comparison(
        a=records[0],
        b=records[1],
        verdict=verdict,
        relation=direction,
        findings=examined.findings,
        planned=evidence.planned,
        initialisation=examined.initialisation,
        inherited=inherited if verdict.found and evidence.ffn_agrees else None,
        origins=origins,
        operations=read_operations(pair, origins, _on_ffn(examined.findings))
        if pair and verdict.found and verdict.verdict != "identical"
        else (),
        facts=facts,
        layer_matrix=_layer_matrix(examined),
        exhibits=_exhibits(pair, examined.layers or {}) if pair else {},
        warnings=_warnings(pair),
        provenance=provenance,
        run=run,
    )


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


def _identical(
    models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy], pair: Pair, *, full: bool
) -> bool:
    """Whether the two hold the same numbers; looked into only where every sampled FFN row is the same."""
    sampled = [[block.digest for block in sketch.units] for sketch in (pair.a, pair.b)]
    if sampled[0] != sampled[1] or (max(model.nbytes for model in models) > _IDENTITY_CHECK and not full):
        return False
    return same_numbers(*models, *anatomies)


def _layer_matrix(examined: _Examined) -> dict[str, Any]:
    pair, blocks = examined.pair, examined.blocks
    if pair is None or blocks is None:
        return {}
    rows, columns = usable_blocks(pair.b), usable_blocks(pair.a)
    counts = np.zeros((pair.b.anatomy.dims.layers, pair.a.anatomy.dims.layers), dtype=np.int64)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            counts[row.layer, column.layer] = max(counts[row.layer, column.layer], blocks.equal[i, j])
    return {
        "statistic": "index matches among sampled FFN units",
        "of": blocks.units,
        "expected": 1.0,
        "rows": "layers of B",
        "columns": "layers of A",
        "counts": counts.tolist(),
    }


def _exhibits(pair: Pair, layers: Mapping[int, int]) -> dict[str, Any]:
    return {
        "std_curves": {**std_curves(pair), "background": background("std_curves")},
        "norm_gains": {"cosine": gain_cosines(pair, layers), "background": background("norm_gains")},
    }


def _warnings(pair: Pair | None) -> tuple[str, ...]:
    if pair is None:
        return ()
    return tuple(f"{name}: {text}" for name, sketch in (("A", pair.a), ("B", pair.b)) for text in sketch.warnings)


def _record(name: str, model: Checkpoint, anatomy: Anatomy) -> ModelRecord:
    dtypes: Counter[str] = Counter()
    listed = hashlib.sha256()
    for info in model.tensors.values():
        dtypes[info.dtype] += info.size
        listed.update(f"{info.name}\0{info.dtype}\0{info.shape}\0".encode("utf-8", "surrogatepass"))
    listed.update(model.meter.hexdigest().encode())
    return ModelRecord(
        id=name,
        format=model.format,
        architecture=anatomy.architecture,
        parameters=model.parameters,
        digest=f"sha256:{listed.hexdigest()}",
        dims=asdict(anatomy.dims),
        dtypes=dict(sorted(dtypes.items())),
        files=tuple({"name": path.name, "bytes": path.stat().st_size} for path in model.files),
        read_bytes=model.meter.bytes,
        of_bytes=sum(path.stat().st_size for path in model.files),
        requests=model.meter.requests,
        notes=(*model.notes, *anatomy.notes),
    )


def _silent(_: str, __: int, ___: int) -> None:
    """No progress is shown."""
