"""The outcome of a comparison, as an object that shows itself and as the document of docs/data-model.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from homolog.derivation.direction import Direction
from homolog.derivation.given import GivenModel
from homolog.derivation.layers import Inherited, LayerOrigin
from homolog.derivation.mapping import ModelMap
from homolog.derivation.merges import Merge
from homolog.derivation.operations import Operation
from homolog.probes.agreement import BodyFinding
from homolog.probes.alone.found import Alone
from homolog.probes.bounds import log10_fixed_points, log10_fixed_points_within, log10_longest_increasing
from homolog.probes.finding import Finding, GroupResult
from homolog.probes.initialisation import Initialisation
from homolog.provenance import Provenance, Run
from homolog.sketch.stored import Stored
from homolog.verdict import RELATED, Verdict

__all__ = ["Comparison", "ModelRecord"]

SCHEMA = "homolog.comparison/1"

_LONGEST_CURVE = 65


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One of the two models, as far as it was read."""

    id: str
    format: str
    architecture: str
    parameters: int
    digest: str
    """SHA-256 of the list of tensors and of every range that was read."""
    dims: Mapping[str, int]
    dtypes: Mapping[str, int]
    files: tuple[Mapping[str, Any], ...]
    read_bytes: int
    """With what was read again."""
    distinct_bytes: int
    of_bytes: int
    requests: int
    notes: tuple[str, ...]
    sketch: Mapping[str, Any] | None = None
    """What a sketch says of itself, where one stood in for the model."""
    alone: Alone = field(default_factory=lambda: Alone.missing("not asked"))
    """What the blocks of the model say of each other."""

    @classmethod
    def of_sketch(cls, name: str, path: Path, stored: Stored) -> ModelRecord:
        """The record of a model that was read from the sketch at ``path``."""
        source, size = stored.source, path.stat().st_size
        return cls(
            id=name,
            format="sketch",
            architecture=stored.anatomy.architecture,
            parameters=source.parameters,
            digest=source.digest,
            dims=asdict(stored.anatomy.dims),
            dtypes=dict(source.dtypes),
            files=({"name": path.name, "bytes": size},),
            read_bytes=size,
            distinct_bytes=size,
            of_bytes=size,
            requests=1,
            notes=source.notes,
            sketch=stored.to_json(),
        )

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "id": self.id,
            "format": self.format,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "digest": self.digest,
            "dims": dict(self.dims),
            "dtypes": dict(self.dtypes),
            "files": [dict(file) for file in self.files],
            "read": {
                "bytes": self.read_bytes,
                "distinct": self.distinct_bytes,
                "of": self.of_bytes,
                "requests": self.requests,
            },
            "notes": list(self.notes),
            "sketch": self.sketch,
            "self": self.alone.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `homolog.compare` returns; in a notebook it shows itself."""

    a: ModelRecord
    b: ModelRecord
    verdict: Verdict
    relation: str | None
    """``a_to_b``, ``b_to_a``, ``common_ancestor``, ``undirected``; ``None`` where no relation was found."""
    findings: tuple[Finding, ...]
    planned: int
    initialisation: Initialisation
    inherited: Inherited | None
    origins: tuple[LayerOrigin, ...]
    operations: tuple[Operation, ...]
    direction: Direction
    layer_matrix: Mapping[str, Any]
    exhibits: Mapping[str, Any]
    warnings: tuple[str, ...]
    provenance: Provenance
    run: Run
    agreement: BodyFinding = field(default_factory=BodyFinding)
    """Tier 2: how far the bodies agree, beside independent models."""
    map: ModelMap = field(default_factory=lambda: ModelMap.missing("not asked"))
    """What is drawn from whole tensors."""
    merge: Merge | None = None
    """What B holds of several given parents; ``None`` if none but A was given."""
    given: GivenModel | None = None
    """How A and B stand to each other, given a third model; ``None`` if none was given."""

    @property
    def exit_code(self) -> int:
        """1 if a relation was found, 3 if the question is open, else 0."""
        return 1 if self.verdict.found else 3 if self.verdict.verdict == "inconclusive" else 0

    def to_json(self) -> dict[str, Any]:
        """The document: everything outside ``run`` is the same for the same inputs and options."""
        verdict = self.verdict
        return {
            "schema": SCHEMA,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "verdict": verdict.verdict,
            "relation": self.relation,
            "sentence": verdict.sentence,
            "reason": verdict.reason,
            "tier": verdict.tier,
            "log10_p": verdict.log10_p,
            "strength": verdict.strength,
            "threshold_log10_p": RELATED,
            "planned_tests": self.planned,
            "inherited": _inherited(self.inherited),
            "ruled_out": [
                {"operation": item.operation, "share": item.share, "text": item.text} for item in verdict.ruled_out
            ],
            "not_ruled_out": list(verdict.not_ruled_out),
            "not_ruled_out_why": verdict.why_not_ruled_out,
            "findings": [_finding(finding) for finding in self.findings],
            "initialisation": {
                "verdict": self.initialisation.verdict,
                "evidence": dict(self.initialisation.evidence),
                "text": self.initialisation.text,
            },
            "agreement": self.agreement.to_json(),
            "layer_matrix": dict(self.layer_matrix),
            "derivation": {
                "layers": [_origin(origin, self.map) for origin in self.origins],
                "operations": [{"kind": step.kind, "detail": step.detail} for step in self.operations],
                "frozen_share": _frozen_share(self.origins),
                "facts": [fact.text for fact in self.direction.facts],
                "direction": self.direction.to_json(),
                **self.map.to_json(),
                "merges": self.merge.to_json() if self.merge else None,
                "given": self.given.to_json() if self.given else None,
            },
            "exhibits": dict(self.exhibits),
            "warnings": list(self.warnings),
            "provenance": self.provenance.to_json(),
            "run": self.run.to_json(),
        }

    def __repr__(self) -> str:
        p = "no p-value" if self.verdict.log10_p is None else f"log10 p {self.verdict.log10_p:.1f}"
        return f"<Comparison of {self.a.id} and {self.b.id}: {self.verdict.verdict}, {p}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(f.probe)}</td><td>{escape(_summary(f))}</td>"
            f"<td>{'' if f.log10_p is None else f'{f.log10_p:.1f}'}</td></tr>"
            for f in self.findings
        )
        said = [f"tier {self.verdict.tier}"] if self.verdict.tier else []
        if self.verdict.log10_p is not None:
            said.append(f"log10 p {self.verdict.log10_p:.1f}")
        if self.inherited is not None:
            said.append(f"{self.inherited.share:.0%} of the FFN units of B inherited")
        if self.relation is not None:
            said.append(f"direction: {self.relation.replace('_', ' ')}")
        done = ", ".join(step.kind.replace("_", " ") for step in self.operations)
        return (
            f"<p><b>{escape(self.verdict.verdict.replace('_', ' '))}</b>: {escape(self.verdict.sentence)}</p>"
            f"<p>{escape(' · '.join(said))}{'<br>B seen from A: ' + escape(done) if done else ''}</p>"
            f"<table><thead><tr><th>test</th><th>best group</th><th>log10 p</th></tr></thead><tbody>{rows}</tbody></table>"
        )


def _summary(finding: Finding) -> str:
    best = finding.best
    return finding.absent or "" if best is None else f"{best.group}: {best.statistic} of {best.of}"


def _inherited(inherited: Inherited | None) -> dict[str, Any] | None:
    if inherited is None:
        return None
    return {
        "share": inherited.share,
        "of": "ffn units of B",
        "low": inherited.low,
        "high": inherited.high,
        "units": inherited.units,
        "inherited": inherited.inherited,
    }


def _origin(origin: LayerOrigin, whole: ModelMap) -> dict[str, Any]:
    sources = [] if origin.a is None else [{"model": "a", "layer": origin.a, "share": origin.share}]
    units, heads = whole.units.get(origin.b), whole.heads.get(origin.b)
    return {
        "b": origin.b,
        "sources": sources,
        "frozen": origin.frozen,
        "units": units.to_json() if units else None,
        "heads": heads.to_json() if heads else None,
    }


def _frozen_share(origins: tuple[LayerOrigin, ...]) -> float:
    compared = [origin for origin in origins if origin.units]
    return sum(origin.frozen for origin in compared) / len(compared) if compared else 0.0


def _finding(finding: Finding) -> dict[str, Any]:
    best = finding.best
    return {
        "probe": finding.probe,
        "tier": finding.tier,
        "null": {"id": finding.null.id, "text": finding.null.text},
        "statistic": best.statistic if best else None,
        "of": best.of if best else None,
        "log10_p": finding.log10_p,
        "tests": finding.tests,
        "groups": [_group(group) for group in finding.groups],
        "total": dict(finding.total),
        "effect": {"median_similarity": best.median_similarity} if best else {},
        "null_curve": _null_curve(best) if best else {"k": [], "log10_tail": []},
        "absent": finding.absent,
        "absent_groups": dict(finding.absent_groups),
    }


def _group(group: GroupResult) -> dict[str, Any]:
    return {
        "group": group.group,
        "b_layer": group.b_layer,
        "a_layer": group.a_layer,
        "statistic": group.statistic,
        "kind": group.kind,
        "matched": group.matched,
        "of": group.of,
        "expected": group.expected,
        "log10_p": group.log10_p,
        "frame": group.frame,
        "median_similarity": group.median_similarity,
    }


def _null_curve(group: GroupResult) -> dict[str, list[int] | list[float]]:
    """Bound on P(statistic >= k) under the null, for at most 65 values of k from 0 to what could be seen."""
    step = max(1, -(-group.matched // (_LONGEST_CURVE - 1)))
    counts = sorted({*range(0, min(16, group.matched) + 1), *range(0, group.matched + 1, step), group.statistic})
    return {"k": counts, "log10_tail": [_tail(group, k) for k in counts]}


def _tail(group: GroupResult, k: int) -> float:
    if group.kind == "lis":
        return log10_longest_increasing(k, group.matched)
    if group.kind == "fixed_points":
        return log10_fixed_points(k, group.matched, group.of)
    return log10_fixed_points_within(k, group.expected)
