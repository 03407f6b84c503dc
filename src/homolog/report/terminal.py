"""A comparison in the terminal: the sentence first, and nothing that a pipe, a narrow window or a lack of colour would spoil."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from homolog.report.absence import shorten_reason
from homolog.report.alone import say_alone
from homolog.report.done import list_operations, say_order
from homolog.report.evidence import best_group
from homolog.report.exclusions import list_not_ruled_out, list_ruled_out
from homolog.report.format import CAP, clean, count, fine_percent, log10, number, percent, power, size
from homolog.report.inherited import say_counted
from homolog.report.language import t
from homolog.report.layers import LayerRow, read_layers
from homolog.report.summary import list_map
from homolog.report.words import FOUND, PROBES, UNASKED, VERDICTS, say, tell
from homolog.report.wrapping import wrap

__all__ = ["print_comparison"]

Json = Mapping[str, Any]

_BLOCKS, _PLAIN_BLOCKS = "·▁▂▃▄▅▆▇█", ".12345678"
"""No share, then eighths: the height is the share, so that colour adds nothing. The second is for terminals without Unicode."""

_PAIR = "cyan"
_INDENT = "  "


def print_comparison(comparison: Json, console: Console) -> None:
    """Print the comparison to ``console``.

    Strings from checkpoints are printed as text: neither console markup nor control sequences in them have any effect.
    """
    for block in (_headline, _findings, _layer_map, _excluded, _read):
        parts = list(block(comparison, console))
        for part in parts:
            if isinstance(part, Text):
                _print_wrapped(part, console)
            else:
                _print_table(part, console)
        if parts and block is not _read:
            console.print()


def _headline(comparison: Json, console: Console) -> Iterator[Any]:
    verdict = _text(console, t("{verdict}. ", verdict=say(VERDICTS, comparison["verdict"])), f"bold {_PAIR}")
    yield verdict + _text(console, tell(comparison["sentence"], 2000), "bold")
    yield _text(console, t("A: {name}", name=clean(comparison["a"]["id"], 200)), "dim")
    yield _text(console, t("B: {name}", name=clean(comparison["b"]["id"], 200)), "dim")
    if comparison.get("reason"):
        yield _text(console, t("Why: {reason}", reason=tell(comparison["reason"], 2000)))
    log10_p = comparison.get("log10_p")
    if log10_p is not None:
        sign = "<=" if log10_p <= -2 else "="
        strength = tell(comparison.get("strength"), 400)
        if log10_p < CAP:
            p = t(
                "p {sign} {p} (the bound computed is {full}): {strength}.",
                sign=sign,
                p=power(CAP),
                full=power(log10_p),
                strength=strength,
            )
        else:
            p = t("p {sign} {p}: {strength}.", sign=sign, p=power(log10_p), strength=strength)
        yield _text(console, p)
    inherited = comparison.get("inherited")
    if inherited:
        low, high = percent(inherited.get("low")), percent(inherited.get("high"))
        units = tell(inherited["of"].replace("ffn", "FFN"))
        share = percent(inherited["share"])
        inherited = t(
            "Inherited: {share} of the {units} ({low} to {high}).", share=share, units=units, low=low, high=high
        )
        yield _text(console, inherited)
        if counted := say_counted(comparison):
            yield _text(console, counted)
    if order := say_order(comparison):
        yield _text(console, order)
    for side in ("a", "b"):
        for said in say_alone(comparison[side].get("self"), findings_only=True):
            yield _text(console, t("{model} by itself: {text}.", model=side.upper(), text=said))
    for warning in comparison.get("warnings") or ():
        yield _text(console, t("Note: {text}", text=tell(warning)), "yellow")


def _findings(comparison: Json, console: Console) -> Iterator[Any]:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column(_text(console, t("asked")), no_wrap=True)
    table.add_column(_text(console, t("best group")), overflow="fold", max_width=18)
    for name in (t("seen"), t("of"), t("chance"), t("log10 p")):
        table.add_column(_text(console, name), justify="right", no_wrap=True)
    absent = []
    for finding in comparison["findings"]:
        name, best = clean(say(PROBES, finding["probe"]), 26), best_group(finding)
        if finding.get("absent") or best is None:
            absent.append((name, shorten_reason(finding.get("absent") or "") or t("no group could be tested")))
            continue
        table.add_row(
            _text(console, name),
            _text(console, tell(best["group"], 60)),
            _text(console, count(best["statistic"]), f"bold {_PAIR}"),
            count(best["of"]),
            number(best["expected"]),
            _text(console, log10(finding["log10_p"]), "bold"),
        )
    bodies = comparison.get("agreement")
    if bodies and bodies.get("value") is not None:
        table.add_row(
            _text(console, t("Bodies, in one frame")),
            _text(console, t("median layer")),
            _text(console, fine_percent(bodies["value"]), f"bold {_PAIR}"),
            "",
            _text(console, fine_percent((bodies.get("bank") or {}).get("most"))),
            _text(console, log10(bodies.get("log10_p")), "bold"),
        )
    elif bodies:
        absent.append((t("Bodies, in one frame"), tell(bodies.get("absent"))))
    heads = (bodies or {}).get("heads")
    if heads and heads.get("value") is not None:
        table.add_row(
            _text(console, t("What heads ask with, in one frame")),
            _text(console, t("median layer")),
            _text(console, number(heads["value"]), f"bold {_PAIR}"),
            "",
            _text(console, number((heads.get("bank") or {}).get("most"))),
            _text(console, log10(heads.get("log10_p")), "bold"),
        )
    if table.row_count:
        yield table
    if absent:
        yield from _list(console, t("No answer:"), absent)


def _layer_map(comparison: Json, console: Console) -> Iterator[Any]:
    rows = read_layers(comparison)
    if not rows:
        yield _text(console, t("Layers of B: not traced."), "dim")
        return
    blocks = _BLOCKS if _can_encode(console, _BLOCKS) else _PLAIN_BLOCKS
    yield _text(console, t("Layers of B, 0 to {last}; height is the share of units that match A:", last=len(rows) - 1))
    line = Text()
    for row in rows:
        line.append(_block(row, blocks), style=_PAIR if row.source else "dim")
    yield line
    traced, frozen = sum(bool(row.source) for row in rows), sum(row.frozen for row in rows)
    words = (t("no source"), t("little"), t("half"), t("all"))
    legend = "   ".join(f"{blocks[step]} {word}" for step, word in zip((0, 1, 4, 8), words, strict=True))
    if frozen:
        found = t("({n} of {of} traced, {frozen} bit-identical)", n=traced, of=len(rows), frozen=frozen)
    else:
        found = t("({n} of {of} traced)", n=traced, of=len(rows))
    yield _text(console, f"{legend}   {found}", "dim")
    if done := list_operations(comparison):
        yield _text(console, t("What seems to have been done, B seen from A: {operations}.", operations=done))
    for said in list_map(comparison):
        yield _text(console, said)


def _block(row: LayerRow, blocks: str) -> str:
    return blocks[max(1, round(8 * row.share))] if row.source else blocks[0]


def _excluded(comparison: Json, console: Console) -> Iterator[Any]:
    out, left = list_ruled_out(comparison), list_not_ruled_out(comparison)
    if comparison["verdict"] in FOUND and not out and not left:
        return
    none = [(t(UNASKED) if comparison["verdict"] in FOUND else t("nothing"), "")]
    for title, entries in ((t("Ruled out:"), out), (t("Not ruled out:"), left)):
        yield from _list(console, title, [(entry.name, entry.text) for entry in entries] or none)


def _read(comparison: Json, console: Console) -> Iterator[Any]:
    for side in ("a", "b"):
        read = comparison[side].get("read") or {}
        whole = read.get("of") or 0
        held = read.get("distinct", read.get("bytes", 0))
        line = t(
            "Read of {model}: {part} of {whole} ({share}) in {n} requests",
            model=side.upper(),
            part=size(held),
            whole=size(whole),
            share=percent(held / whole) if whole else "–",
            n=count(read.get("requests")),
        )
        yield _text(console, line, "dim")


def _list(console: Console, title: str, entries: list[tuple[str, str]]) -> Iterator[Any]:
    yield _text(console, title)
    for name, detail in entries:
        entry = _text(console, name, "bold" if detail else "")
        if detail:
            entry += _text(console, t(": {detail}", detail=detail))
        yield Text(_INDENT) + entry


def _print_table(table: Table, console: Console) -> None:
    """Lines without trailing blanks, also where a cell takes several."""
    for line in console.render_lines(table, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
        console.print(Segments([*line, Segment.line()]), end="")


def _print_wrapped(text: Text, console: Console) -> None:
    """Lines without trailing blanks; an indented entry keeps its indent."""
    indent = _INDENT if text.plain.startswith(_INDENT) else ""
    for line in wrap(text[len(indent) :], console, max(20, console.width - len(indent))):
        console.print(Text(indent) + line, highlight=False, no_wrap=True, overflow="ignore", crop=False)


def _text(console: Console, text: str, style: str = "") -> Text:
    """Literal text; what the terminal's encoding lacks becomes a question mark, where writing it would raise."""
    if not _can_encode(console, text):
        text = text.replace("−", "-").replace("–", "-").encode(console.encoding, "replace").decode(console.encoding)
    return Text(text, style=style)


def _can_encode(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
