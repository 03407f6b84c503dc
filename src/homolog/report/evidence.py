"""The findings, arranged: what was asked, what was seen, what chance would do, or why there is no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.report.absence import shorten_reason
from homolog.report.charts.null import draw_null
from homolog.report.format import clean, count, log10, number, power_html
from homolog.report.language import t
from homolog.report.words import FRAMES, KINDS, PROBES, QUESTIONS, say, tell

__all__ = ["MOST_GROUPS", "arrange_finding", "best_group"]

Json = Mapping[str, Any]

MOST_GROUPS = 300
"""Rows of one probe's table of groups; a mixture of experts has thousands, and the report is to stay under 2 MB."""


def best_group(finding: Json) -> Json | None:
    """The group that the finding's statistic is of."""
    return min(finding.get("groups") or (), key=lambda group: float(group["log10_p"]), default=None)


def arrange_finding(index: int, finding: Json, drawn: dict[str, Any]) -> dict[str, Any]:
    """One finding in words, with the table of its groups; its picture goes into ``drawn``."""
    shown: dict[str, Any] = {
        "name": say(PROBES, finding["probe"]),
        "probe": clean(finding["probe"]),
        "question": t(QUESTIONS.get(finding["probe"], "")),
        "null": tell(finding["null"]["text"], 2000),
        "null_id": clean(finding["null"]["id"]),
        "absent": tell(finding["absent"]) if finding.get("absent") else None,
        "absent_shortly": shorten_reason(finding.get("absent") or ""),
        "absent_groups": _absent_groups(finding.get("absent_groups") or {}),
        "tests": finding.get("tests") or 0,
    }
    best = best_group(finding)
    if shown["absent"] or best is None:
        shown["absent"] = shown["absent"] or t("no group could be tested")
        shown["absent_shortly"] = shown["absent_shortly"] or shown["absent"]
        return shown
    groups = finding["groups"]
    kind = best["kind"]
    drawn[f"null-{index}"] = draw_null(
        finding.get("null_curve") or {}, best, [group for group in groups if group["kind"] == kind]
    )
    total = finding.get("total") or {}
    return shown | {
        "chart": f"null-{index}",
        "best": tell(best["group"]),
        "seen": count(best["statistic"]),
        "of": count(best["of"]),
        "expected": number(best["expected"]),
        "in_order": kind == "lis",
        "p": power_html(finding["log10_p"]),
        "bound": finding["log10_p"] <= -2,
        "log10_p": log10(finding["log10_p"]),
        "total": {key: log10(value) if key == "log10_p" else number(value) for key, value in total.items()},
        "groups": [_group(group) for group in _shortlist(groups)],
        "more": max(0, len(groups) - MOST_GROUPS),
    }


def _shortlist(groups: Sequence[Json]) -> list[Json]:
    """The groups with the smallest p-values, in their own order."""
    if len(groups) <= MOST_GROUPS:
        return list(groups)
    limit = sorted(float(group["log10_p"]) for group in groups)[MOST_GROUPS - 1]
    return [group for group in groups if group["log10_p"] <= limit][:MOST_GROUPS]


def _group(group: Json) -> dict[str, Any]:
    return {
        "name": tell(group["group"]),
        "source": t("layer {n}", n=group["a_layer"]) if group["a_layer"] >= 0 else t("the same"),
        "seen": count(group["statistic"]),
        "matched": count(group["matched"]),
        "of": count(group["of"]),
        "expected": number(group["expected"]),
        "kind": say(KINDS, group["kind"]),
        "frame": say(FRAMES, group["frame"]),
        "similarity": number(group.get("median_similarity")),
        "log10_p": log10(group["log10_p"]),
    }


def _absent_groups(groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """Groups that were left out, those with one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for group, reason in groups.items():
        by_reason.setdefault(tell(reason), []).append(tell(group))
    return [(clean(t(", ").join(names), 1500), reason) for reason, names in by_reason.items()]
