"""What every page has: the style, the vendored scripts, the charts as data, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from homolog.report.charts.base import CONFIG
from homolog.report.language import current_language, t, t_html
from homolog.report.words import GLOSSARY

__all__ = ["fill_page"]

_HTML_LANGUAGES = {"en": "en", "zh": "zh-Hans"}
"""What ``<html lang>`` says."""

_VENDORED = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def fill_page(
    template: str, view: Mapping[str, Any], charts: Mapping[str, Any], *, package: str = "homolog.report"
) -> str:
    """A page as text: ``templates/<template>`` of ``package`` filled with ``view``, and the charts that it names."""
    scripts, failed = _scripts(), t("This chart could not be drawn; its numbers are in the table.")
    return (
        _environment(package)
        .get_template(template)
        .render(
            view,
            style=Markup(_read("homolog.report", "templates/style.css")),
            chart_data=Markup(_embed_json({"config": CONFIG, "charts": charts, "failed": failed})),
            scripts=[Markup(script) for script in scripts],
            policy=_policy(scripts),
            gap="" if current_language() == "zh" else " ",
            language=_HTML_LANGUAGES[current_language()],
        )
    )


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
    names = [*(f"vendor/{name}" for name in _VENDORED), "templates/report.js"]
    return tuple(re.sub(r"\n//# sourceMappingURL=\S+\s*$", "\n", _read("homolog.report", name)) for name in names)


@cache
def _environment(package: str) -> jinja2.Environment:
    """Templates of the package, and those of the report that they build on."""
    folders = [
        jinja2.FunctionLoader(partial(_find, package)),
        jinja2.FunctionLoader(partial(_find, "homolog.report")),
    ]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["glossary"] = GLOSSARY
    environment.globals["t"] = t_html
    return environment


def _find(package: str, name: str) -> str | None:
    try:
        return _read(package, f"templates/{name}")
    except FileNotFoundError:
        return None


def _read(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
