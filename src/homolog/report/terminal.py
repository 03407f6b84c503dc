"""A comparison in the terminal: the sentence first, and nothing that a pipe, a narrow window or a lack of colour would spoil."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from homolog.report.evidence import best_group
from homolog.report.exclusions import UNASKED, list_not_ruled_out, list_ruled_out
from homolog.report.format import CAP, clean, count, log10, number, percent, power, size
from homolog.report.layers import LayerRow, read_layers
from homolog.report.words import FOUND, OPERATIONS, PROBES, RELATIONS, VERDICTS, say

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
        for part in block(comparison, console):
            if isinstance(part, Text):
                _print_wrapped(part, console)
            else:
                console.print(part)
        if block is not _read:
            console.print()


def _headline(comparison: Json, console: Console) -> Iterator[Any]:
    verdict = Text(f"{say(VERDICTS, comparison['verdict'])}. ", style=f"bold {_PAIR}")
    yield verdict + _text(console, clean(comparison["sentence"], 2000), "bold")
    yield _text(console, f"A: {clean(comparison['a']['id'], 200)}", "dim")
    yield _text(console, f"B: {clean(comparison['b']['id'], 200)}", "dim")
    if comparison.get("reason"):
        yield _text(console, f"Why: {clean(comparison['reason'], 2000)}")
    log10_p = comparison.get("log10_p")
    if log10_p is not None:
        sign = "<=" if log10_p <= -2 else "="
        capped = f" (the bound computed is {power(log10_p)})" if log10_p < CAP else ""
        yield _text(
            console, f"p {sign} {power(max(CAP, log10_p))}{capped}: {clean(comparison.get('strength') or '', 400)}."
        )
    inherited = comparison.get("inherited")
    if inherited:
        interval = f" ({percent(inherited.get('low'))} to {percent(inherited.get('high'))})"
        of = clean(inherited["of"]).replace("ffn", "FFN")
        yield _text(console, f"Inherited: {percent(inherited['share'])} of the {of}{interval}.")
    if comparison.get("relation") and comparison["verdict"] in FOUND:
        yield _text(console, say(RELATIONS, comparison["relation"]))
    for warning in comparison.get("warnings") or ():
        yield _text(console, f"Note: {clean(warning, 1000)}", "yellow")


def _findings(comparison: Json, console: Console) -> Iterator[Any]:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("asked", no_wrap=True)
    table.add_column("best group", overflow="fold", max_width=16)
    for name in ("seen", "of", "chance", "log10 p"):
        table.add_column(name, justify="right", no_wrap=True)
    absent = []
    for finding in comparison["findings"]:
        name, best = clean(say(PROBES, finding["probe"]), 26), best_group(finding)
        if finding.get("absent") or best is None:
            absent.append((name, clean(finding.get("absent") or "no group could be tested", 1000)))
            continue
        table.add_row(
            _text(console, name),
            _text(console, clean(best["group"], 60)),
            _text(console, count(best["statistic"]), f"bold {_PAIR}"),
            count(best["of"]),
            number(best["expected"]),
            _text(console, log10(finding["log10_p"]), "bold"),
        )
    if table.row_count:
        yield table
    if absent:
        yield from _list(console, "No answer:", absent)


def _layer_map(comparison: Json, console: Console) -> Iterator[Any]:
    rows = read_layers(comparison)
    if not rows:
        yield _text(console, "Layers of B: not traced.", "dim")
        return
    blocks = _BLOCKS if _can_encode(console, _BLOCKS) else _PLAIN_BLOCKS
    yield _text(console, f"Layers of B, 0 to {len(rows) - 1}; height is the share of units that match A:")
    line = Text()
    for row in rows:
        line.append(_block(row, blocks), style=_PAIR if row.source else "dim")
    yield line
    traced, frozen = sum(bool(row.source) for row in rows), sum(row.frozen for row in rows)
    legend = f"{blocks[0]} no source   {blocks[1]} little   {blocks[4]} half   {blocks[8]} all"
    identical = f", {frozen} bit-identical" if frozen else ""
    yield _text(console, f"{legend}   ({traced} of {len(rows)} traced{identical})", "dim")
    operations = (comparison.get("derivation") or {}).get("operations") or ()
    if operations:
        done = "; ".join(say(OPERATIONS, step["kind"]).lower() for step in operations)
        yield _text(console, f"What seems to have been done, B seen from A: {done}.")


def _block(row: LayerRow, blocks: str) -> str:
    return blocks[max(1, round(8 * row.share))] if row.source else blocks[0]


def _excluded(comparison: Json, console: Console) -> Iterator[Any]:
    out, left = list_ruled_out(comparison), list_not_ruled_out(comparison)
    none = [(UNASKED if comparison["verdict"] in FOUND else "nothing", "")]
    for title, entries in (("Ruled out:", out), ("Not ruled out:", left)):
        yield from _list(console, title, [(entry.name, entry.text) for entry in entries] or none)


def _read(comparison: Json, console: Console) -> Iterator[Any]:
    for side in ("a", "b"):
        read = comparison[side].get("read") or {}
        held, whole = read.get("bytes", 0), read.get("of") or 0
        share = f" ({percent(held / whole)})" if whole else ""
        requests = count(read.get("requests"))
        yield _text(
            console, f"Read of {side.upper()}: {size(held)} of {size(whole)}{share} in {requests} requests", "dim"
        )


def _list(console: Console, title: str, entries: list[tuple[str, str]]) -> Iterator[Any]:
    yield _text(console, title)
    for name, detail in entries:
        entry = _text(console, name, "bold" if detail else "")
        if detail:
            entry += _text(console, f": {detail}")
        yield Text(_INDENT) + entry


def _print_wrapped(text: Text, console: Console) -> None:
    """Lines without trailing blanks; an indented entry keeps its indent."""
    indent = _INDENT if text.plain.startswith(_INDENT) else ""
    lines = text[len(indent) :].wrap(console, max(20, console.width - len(indent)))
    for line in lines:
        line.rstrip()
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
