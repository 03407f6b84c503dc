"""Every text that the report and the terminal may say, collected from the source: what a catalogue has to translate."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jinja2
from jinja2 import nodes

from homolog.report import words

SOURCE = Path(str(files("homolog")))
SPEAKING = [*sorted((SOURCE / "report").rglob("*.py")), *sorted((SOURCE / "cli").glob("*.py"))]
"""Modules that use `t`."""


def own_words() -> dict[str, str]:
    """What `t` is asked for, with the place: literals in Python and in templates, and the dictionaries of words."""
    found: dict[str, str] = {}
    for path in SPEAKING:
        found |= {text: path.name for text in _calls(ast.parse(path.read_text("utf-8")))}
    for path in sorted((SOURCE / "report" / "templates").glob("*.j2")):
        tree = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).parse(path.read_text("utf-8"))
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "t" and isinstance(call.args[0], nodes.Const):
                found[call.args[0].value] = path.name
    return found | {text: "words.py" for text in _dictionaries()}


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"t", "expression"}:
            text = node.args[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def _dictionaries() -> Iterator[str]:
    for name, value in vars(words).items():
        if name.startswith("_") or not name.isupper():
            continue
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from (text for pair in value for text in pair)
    yield from words.GLOSSARY
