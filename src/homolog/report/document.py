"""The report's table of contents as data: what each section shows, arranged from the comparison object. Nothing is computed anew."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from homolog.report.alone import say_alone
from homolog.report.bodies import arrange_bodies
from homolog.report.charts.matrix import HEAT_STEPS, draw_layer_matrix, matrix_width
from homolog.report.columns import arrange_columns
from homolog.report.derived import arrange_derived
from homolog.report.done import list_operations, say_order
from homolog.report.evidence import arrange_finding
from homolog.report.exclusions import list_not_ruled_out, list_ruled_out
from homolog.report.exhibits import arrange_exhibits
from homolog.report.format import CAP, clean, count, log10, number, percent, power_html, raise_powers, size
from homolog.report.inherited import say_counted
from homolog.report.language import t
from homolog.report.words import (
    ASSUMPTIONS,
    EVIDENCE,
    FOUND,
    GLOSSARY,
    INITIALISATION,
    OPERATIONS,
    SPACES,
    START_ASSUMPTIONS,
    UNASKED,
    VERDICTS,
    say,
    tell,
)

__all__ = ["arrange"]

Json = Mapping[str, Any]

_LOCAL = re.compile(r"[/.~\\]|[A-Za-z]:[/\\]|[^/@:]+/[^/@:]+/")
"""How a local path begins, or that it goes deeper than a hub's ``org/name``, which is shown whole."""

MOST_FILES = 40
"""Files listed by name; a sharded model may have hundreds."""


def arrange(comparison: Json) -> dict[str, Any]:
    """Everything the template needs, and the charts under ``charts``, by the id of their place in the page."""
    drawn: dict[str, Any] = {}
    found, names = comparison["verdict"] in FOUND, _names(comparison)
    findings = [arrange_finding(index, finding, drawn) for index, finding in enumerate(comparison["findings"])]
    return {
        "a": _model(comparison["a"], names[0]),
        "b": _model(comparison["b"], names[1]),
        "verdict": say(VERDICTS, comparison["verdict"]),
        "relation": say_order(comparison),
        "kind": comparison["verdict"],
        "sentence": tell(comparison["sentence"], 2000),
        "done": list_operations(comparison),
        "reason": tell(comparison["reason"], 2000) if comparison.get("reason") else None,
        "headline": _headline(comparison),
        "inherited": _inherited(comparison),
        "warnings": [tell(text) for text in comparison.get("warnings") or ()],
        "layers": arrange_columns(comparison),
        "derived": arrange_derived(comparison.get("derivation") or {}, drawn),
        "bodies": arrange_bodies(comparison.get("agreement"), drawn),
        "matrix": _matrix(comparison.get("layer_matrix"), drawn),
        "operations": [
            {"name": say(OPERATIONS, operation["kind"]), "detail": tell(operation.get("detail"))}
            for operation in (comparison.get("derivation") or {}).get("operations") or ()
        ],
        "facts": _facts(comparison.get("derivation") or {}),
        "answered": [finding for finding in findings if not finding["absent"]],
        "absent": [finding for finding in findings if finding["absent"]],
        "findings": findings,
        "initialisation": _initialisation(comparison.get("initialisation")),
        "exhibits": arrange_exhibits(comparison.get("exhibits") or {}, drawn),
        "ruled_out": list_ruled_out(comparison),
        "not_ruled_out": list_not_ruled_out(comparison),
        "unasked": t(UNASKED),
        "found": found,
        "assumptions": START_ASSUMPTIONS if comparison["verdict"] == "shared_initialisation" else ASSUMPTIONS,
        "glossary": GLOSSARY,
        "command": clean(comparison["provenance"].get("command", ""), 2000),
        "version": clean(comparison["provenance"].get("homolog", "")),
        "options": [(clean(k), clean(v)) for k, v in (comparison["provenance"].get("options") or {}).items()],
        "schema": clean(comparison["schema"]),
        "run": comparison.get("run") or {},
        "charts": drawn,
    }


def _headline(comparison: Json) -> dict[str, Any]:
    said = comparison.get("strength") or ""
    strength = t("what chance alone does") if said == "none" else tell(said, 400)
    log10_p, threshold = comparison.get("log10_p"), comparison.get("threshold_log10_p")
    return {
        "p": None if log10_p is None else power_html(max(CAP, log10_p)),
        "bound": log10_p is not None and log10_p <= -2,
        "capped": log10_p is not None and log10_p < CAP,
        "full": None if log10_p is None else power_html(log10_p),
        "strength": raise_powers(_sentence_case(strength)),
        "explain_cap": log10_p is not None and log10_p < CAP and "weaker link" not in said,
        "cap": power_html(CAP),
        "threshold": None if threshold is None else power_html(threshold),
        "tests": comparison.get("planned_tests"),
        "tier": comparison.get("tier"),
    }


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


_ARROWS: Mapping[str, str] = {"a_to_b": "A → B", "b_to_a": "B → A"}


def _facts(derivation: Json) -> list[tuple[str, str]]:
    """What was found on the way, each with the order that it holds in, if it does in one only; and why that is not enough."""
    direction = derivation.get("direction") or {}
    facts = direction.get("facts") or ()
    known = {fact["text"] for fact in facts}
    found = [(_ARROWS.get(fact["direction"], t("Fact")), tell(fact["text"])) for fact in facts]
    found += [(t("Fact"), tell(text)) for text in derivation.get("facts") or () if text not in known]
    return found + ([(t("Direction"), tell(direction["why"]))] if direction.get("why") else [])


def _inherited(comparison: Json) -> dict[str, Any] | None:
    inherited = comparison.get("inherited")
    if not inherited:
        return None
    units = inherited.get("units")
    return {
        "share": percent(inherited["share"]),
        "value": float(inherited["share"]),
        "low": inherited.get("low"),
        "high": inherited.get("high"),
        "interval": t("{low} to {high}", low=percent(inherited.get("low")), high=percent(inherited.get("high"))),
        "of": tell(inherited["of"].replace("ffn", "FFN")),
        "n": count(inherited.get("inherited")),
        "units": count(units) if units else "",
        "counted": say_counted(comparison),
    }


def _matrix(matrix: Json | None, drawn: dict[str, Any]) -> dict[str, Any] | None:
    if not matrix or not matrix.get("counts"):
        return None
    drawn["matrix"] = draw_layer_matrix(matrix)
    return {
        "statistic": _sentence_case(tell(matrix["statistic"])),
        "of": int(matrix["of"]),
        "expected": number(matrix["expected"]),
        "counts": matrix["counts"],
        "columns": max(len(row) for row in matrix["counts"]),
        "pale": 4 * max(max(row, default=0) for row in matrix["counts"]) < int(matrix["of"]),
        "width": matrix_width(matrix),
        "steps": range(HEAT_STEPS),
    }


def _initialisation(asked: Json | None) -> dict[str, Any] | None:
    if not asked:
        return None
    return {
        "verdict": say(INITIALISATION, asked["verdict"]),
        "asked": asked["verdict"] != "not_asked",
        "text": tell(asked.get("text"), 2000),
        "evidence": [
            (say(EVIDENCE, key), log10(value) if "log10" in key else number(value))
            for key, value in (asked.get("evidence") or {}).items()
        ],
    }


def _names(comparison: Json) -> tuple[str, str]:
    """What to call the two models on top: the last part of a local path, unless both end alike."""
    ids = [clean(comparison[side]["id"], 200) for side in ("a", "b")]
    short = [re.split(r"[/\\]", name.rstrip("/\\"))[-1] if _LOCAL.match(name) else name for name in ids]
    first, second = short if short[0] != short[1] and all(short) else ids
    return first, second


def _model(model: Json, name: str) -> dict[str, Any]:
    read, files = model.get("read") or {}, model.get("files") or ()
    whole = read.get("of") or 0
    held = read.get("distinct", read.get("bytes", 0))
    return {
        "id": clean(model["id"], 200),
        "name": name,
        "format": clean(model.get("format") or t("unknown")),
        "architecture": clean(model.get("architecture") or t("unknown")),
        "parameters": count(model.get("parameters")),
        "dims": t(", ").join(
            t(SPACES[key], n=count(value))
            for key, value in (model.get("dims") or {}).items()
            if value and key in SPACES
        ),
        "dtypes": t(", ").join(f"{clean(kind)} {count(held)}" for kind, held in (model.get("dtypes") or {}).items()),
        "digest": clean(model.get("digest") or "–"),
        "read": _say_read(held, read.get("bytes", 0), whole),
        "share": percent(held / whole) if whole else "–",
        "requests": count(read.get("requests")),
        "files": [(clean(file["name"]), size(file["bytes"])) for file in files[:MOST_FILES]],
        "more_files": max(0, len(files) - MOST_FILES),
        "notes": [tell(note) for note in model.get("notes") or ()],
        "alone": [raise_powers(_sentence_case(text)) for text in say_alone(model.get("self"))],
    }


def _say_read(distinct: int, everything: int, whole: int) -> str:
    """Bytes read at least once, and where that is no longer the same, with what was read again."""
    part, of = size(distinct), size(whole)
    if everything <= 1.02 * distinct:
        return t("{part} of {whole}", part=part, whole=of)
    return t("{part} of {whole}; {all} with what was read again", part=part, whole=of, all=size(everything))
