"""The report: one HTML file that holds everything it shows and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from homolog.errors import UsageError
from homolog.report.charts.base import CONFIG
from homolog.report.document import arrange
from homolog.report.words import GLOSSARY

__all__ = ["render", "write_report"]

SCHEMA = "homolog.comparison/1"

_VENDORED = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def write_report(comparison: Mapping[str, Any], path: Path, *, overwrite: bool = False) -> Path:
    """Write the report of ``comparison`` to ``path`` and return the path.

    The file appears whole or not at all. Raises `UsageError` if it exists and ``overwrite`` (``--force`` on the command line)
    is false, if the object is of another schema, or if the place cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _refuse(path, overwrite)
        page = render(comparison)
        try:
            partial.write_text(page, encoding="utf-8", newline="\n")
            _refuse(path, overwrite)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path}: the report cannot be written there ({error.strerror or error}); name another place"
        ) from error
    return path


def render(comparison: Mapping[str, Any]) -> str:
    """The report of ``comparison`` as text: the same object gives the same text."""
    found = comparison.get("schema")
    if found != SCHEMA:
        raise UsageError(f"this is no comparison object: found schema {found!r}, expected {SCHEMA!r}")
    view = arrange(comparison)
    data = _embed_json({"config": CONFIG, "charts": view.pop("charts")})
    scripts = _scripts()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            view,
            style=Markup(_read("templates/style.css")),
            chart_data=Markup(data),
            scripts=[Markup(script) for script in scripts],
            policy=_policy(scripts),
        )
    )


def _refuse(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file, for example {path / 'report.html'}")
    if path.exists() and not overwrite:
        raise UsageError(
            f"{path}: exists already; name another file, remove it, or ask for it to be replaced (--force)"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; create it first or name another place")


def _embed_json(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: tuple[str, ...]) -> str:
    """The content security policy: exactly these scripts may run, and nothing may be fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


@cache
def _scripts() -> tuple[str, ...]:
    """The scripts in the order in which they run, without the addresses of source maps, which a debugger would try to fetch."""
    sources = [_read(f"vendor/{name}") for name in _VENDORED] + [_read("templates/report.js")]
    return tuple(re.sub(r"\n//# sourceMappingURL=\S+\s*$", "\n", source) for source in sources)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _read(f"templates/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["glossary"] = GLOSSARY
    return environment


def _read(name: str) -> str:
    return (files("homolog.report") / name).read_text(encoding="utf-8")
