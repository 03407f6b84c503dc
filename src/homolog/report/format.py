"""Numbers and hostile strings as text: the one place that decides how they look, in the report and in the terminal."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup, escape

from homolog.report.language import t

__all__ = [
    "CAP",
    "clean",
    "count",
    "fine_percent",
    "log10",
    "number",
    "percent",
    "power",
    "power_html",
    "raise_powers",
    "size",
]

CAP = -30.0
"""log10 p below which words stop growing: there the assumptions are the weaker link."""


def clean(text: Any, longest: int = 400) -> str:
    """A string from a checkpoint, made safe to read: on one line, no control or direction-changing characters, bounded.

    What is cut is cut from the middle, because paths differ at their ends.
    """
    raw = str(text)
    if len(raw) > longest:
        head = longest // 2
        raw = f"{raw[:head]} … {raw[head - longest :]}"
    return "".join(c if c.isprintable() else " " if c in "\n\t" else f"\\x{ord(c):02x}" for c in raw)


def power(log10_p: float) -> str:
    """A p-value as ``0.37`` or ``10^-1163``, rounded to the weaker side: it is never made to look smaller than it is."""
    if log10_p > -2:
        return f"{min(1.0, math.ceil(10 ** (log10_p + 2) - 1e-9) / 100):.2f}"
    return f"10^{math.ceil(log10_p - 1e-9)}"


def power_html(log10_p: float) -> Markup:
    """The same with the exponent raised."""
    return raise_powers(power(log10_p))


def raise_powers(text: str) -> Markup:
    """Text as safe HTML in which every ``10^30`` has its exponent raised."""
    return Markup(re.sub(r"10\^(-?)(\d+)", lambda m: f"10<sup>{'−' if m[1] else ''}{m[2]}</sup>", str(escape(text))))


def log10(value: float | None) -> str:
    """A log10 p for a column of a table: one decimal, a true minus sign."""
    if value is None:
        return "–"
    return f"{value:,.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"


def count(value: float | None) -> str:
    """A count with thousands separated: ``6,754,383``."""
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number: ``1``, ``0.97``, ``21.7``; integers stay integers."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return count(value).replace("-", "−")
    return f"{value:,.{digits if abs(value) < 10 else 1}f}".replace("-", "−")


def percent(share: float | None) -> str:
    """A share as ``98 %``; 100 % and 0 % are said only when exact, so 0.9996 reads ``99.9 %``."""
    if share is None:
        return "–"
    value = 100 * share
    if 0 < value < 1 or 99 < value < 100:
        return t("{value} %", value=f"{min(99.9, max(0.1, value)):.1f}")
    return t("{value} %", value=f"{value:.0f}")


def fine_percent(share: float | None) -> str:
    """The same with a decimal where the share is small: ``4.7 %``."""
    if share is None or not 0 < share < 0.1:
        return percent(share)
    return t("{value} %", value=f"{100 * share:.1f}")


def size(nbytes: float) -> str:
    """Bytes in decimal units: ``27.0 MB``."""
    value = float(nbytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return t("{value} bytes", value=f"{value:.0f}") if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
