"""The report: one HTML file that holds everything it shows and asks nobody for anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homolog.errors import UsageError
from homolog.report.document import arrange
from homolog.report.language import speaking
from homolog.report.page import fill_page

__all__ = ["render", "write_report"]

SCHEMA = "homolog.comparison/1"


def write_report(comparison: Mapping[str, Any], path: Path, *, overwrite: bool = False, lang: str = "en") -> Path:
    """Write the report of ``comparison`` to ``path``, in the language ``lang`` (``en`` or ``zh``), and return the path.

    The file appears whole or not at all. Raises `UsageError` if it exists and ``overwrite`` (``--force`` on the command line)
    is false, if the object is of another schema, if there is no such language, or if the place cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _refuse(path, overwrite)
        page = render(comparison, lang=lang)
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


def render(comparison: Mapping[str, Any], *, lang: str = "en") -> str:
    """The report of ``comparison`` as text: the same object and language (``en`` or ``zh``) give the same text."""
    found = comparison.get("schema")
    if found != SCHEMA:
        raise UsageError(f"this is no comparison object: found schema {found!r}, expected {SCHEMA!r}")
    with speaking(lang):
        view = arrange(comparison)
        charts = view.pop("charts")
        return fill_page("report.html.j2", view, charts)


def _refuse(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file, for example {path / 'report.html'}")
    if path.exists() and not overwrite:
        raise UsageError(
            f"{path}: exists already; name another file, remove it, or ask for it to be replaced (--force)"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; create it first or name another place")
