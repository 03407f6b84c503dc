"""From what was found to the comparison that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from homolog.comparison import Comparison, ModelRecord
from homolog.derivation.disguises import name_disguises
from homolog.derivation.operations import Operation, add_low_rank, add_merge, read_heads, read_operations
from homolog.examination.examined import Examined
from homolog.examination.pair import on_ffn
from homolog.examination.second_look import find_frame
from homolog.probes.exhibits import background, gain_cosines, std_curves
from homolog.probes.ffn import usable_blocks
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair
from homolog.provenance import Provenance, Run
from homolog.verdict import Evidence, decide

__all__ = ["conclude"]

_OF_THE_BASIS = frozenset({"residual_permuted", "residual_rotated", "rescaled"})

_UNMOVED = 0.9999
"""|Cosine| of partners' rows from which a change of basis or of scale, rounded to sixteen bits, is all that happened to them."""

_UNTRAINED = 0.98
"""Mean squared cosine of partners' gates from which disguises explain all the difference there is."""


def conclude(examined: Examined, records: Sequence[ModelRecord], provenance: Provenance, run: Run) -> Comparison:
    """Decide, name what was done, and put together all that is shown."""
    pair = examined.pair
    origins = examined.origins
    evidence = examined.evidence
    inherited = evidence.inherited
    verdict = decide(evidence)
    direction = examined.direction
    return Comparison(
        a=records[0],
        b=records[1],
        verdict=verdict,
        relation=direction.relation if verdict.found else None,
        findings=examined.findings,
        planned=evidence.planned,
        initialisation=examined.initialisation,
        inherited=inherited if verdict.found and (evidence.ffn_agrees or evidence.body.related) else None,
        origins=origins,
        operations=_operations(examined, evidence) if pair and verdict.found and verdict.verdict != "identical" else (),
        direction=direction,
        layer_matrix=_layer_matrix(examined),
        exhibits=_exhibits(pair, examined.layers or {}) if pair else {},
        warnings=(*_warnings(pair), *_warn_of_basis(records), *examined.warnings),
        provenance=provenance,
        run=run,
        agreement=examined.look.finding,
        map=examined.map,
        merge=examined.merge,
        given=examined.given,
    )


def _operations(examined: Examined, evidence: Evidence) -> tuple[Operation, ...]:
    """Disguises first, then what else was done."""
    pair, look = examined.pair, examined.look
    assert pair is not None
    moved, _ = find_frame(examined, evidence)
    disguises = name_disguises(pair, examined.origins, look, moved, indices_agree=evidence.ffn_agrees)
    others = read_operations(pair, examined.origins, on_ffn(examined.findings))
    named = {step.kind for step in disguises}
    if named & {"units_split", "gates_flipped"}:
        named.add("ffn_widened")
    if not evidence.ffn_agrees and look.finding.agreement.fit >= _UNTRAINED:
        named.add("continued_training")
    if named & _OF_THE_BASIS and _are_rows_kept(examined.findings):
        named.add("continued_training")
    steps = (*disguises, *read_heads(examined.map.heads), *(step for step in others if step.kind not in named))
    return add_merge(add_low_rank(steps, examined.map.tensors), examined.merge)


def _are_rows_kept(findings: Sequence[Finding]) -> bool:
    """Whether the FFN rows of the median block point where they did, in the frame of the files or in that of the embeddings."""
    alike: dict[str, list[float]] = {}
    for finding in findings:
        if finding.probe in ("ffn.rows", "ffn.rows.aligned"):
            for group in finding.groups:
                alike.setdefault(group.frame, []).append(group.median_similarity)
    return any(float(np.median(found)) >= _UNMOVED for found in alike.values())


def _layer_matrix(examined: Examined) -> dict[str, Any]:
    pair, blocks = examined.pair, examined.blocks
    if pair is None or blocks is None or pair.a.layers_read is not None or pair.b.layers_read is not None:
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


def _warn_of_basis(records: Sequence[ModelRecord]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {record.alone.basis.warning}"
        for name, record in zip("AB", records, strict=True)
        if record.alone.basis.warning
    )
