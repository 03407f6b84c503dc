"""Every text that the report and the terminal may say, collected from the source: what a catalogue has to translate."""

from __future__ import annotations

import ast
import re
import tomllib
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


def hidden_words() -> list[str]:
    """Calls of `t` whose text the collection cannot see: neither a literal nor something out of ``words``."""
    found = []
    for path in SPEAKING:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t":
                shown = ast.unparse(node.args[0])
                if not isinstance(node.args[0], ast.Constant) and not re.match("[A-Z]+\\b", shown):
                    found.append(f"{path.name}: t({shown})")
    return found


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


SENTENCES: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "sentences.toml").read_text("utf-8"))
"""What a catalogue need not translate, and sentences that it must."""

COMPOSING = (
    "verdict.py",
    "examination",
    "pipeline.py",
    "probes",
    "derivation",
    "align",
    "sketch",
    "roles",
    "checkpoint",
)
"""Modules and packages that write sentences into comparisons and inspections."""

_SAMPLES = {
    "kind": "body",
    "name": "A",
    "_layers": "layers 7, 9",
    "lattice": "int4, a scale for every 32 numbers",
    "in_a": "a unit's size follows its index (z = 7)",
    "in_b": "units at distance 7 are of like size (z = 7)",
}
"""What stands for a gap with this variable or this function in it; for all others it is 7, which is a name, a number and a list."""

_RAISED = re.compile(r"(Error|Checkpoint|Format|Refused|Exceeded|Moved|Cached|Failed|Changed|NotFound)$")


def library_sentences() -> dict[str, str]:
    """Strings of the library that read like sentences, with their gaps filled in, by what they look like in the source.

    Errors are left out: they end a run and are English. So are the parts that errors are made of.
    """
    found: dict[str, str] = {}
    for name in COMPOSING:
        path = SOURCE / name
        for module in [path] if path.suffix else sorted(path.rglob("*.py")):
            if module.relative_to(SOURCE).as_posix() in SENTENCES["only_errors"]:
                continue
            for node in _prose(ast.parse(module.read_text("utf-8"))):
                found |= {text: f"{module.relative_to(SOURCE)}:{node.lineno}" for text in _fill(node) if _reads(text)}
    for file in sorted((SOURCE / "roles" / "architectures").glob("*.toml")):
        family = tomllib.loads(file.read_text("utf-8"))
        said = [*family.get("notes", ()), *(entry["reason"] for entry in family.get("ignore", ()))]
        said += family.get("traits", {}).get("ordered", {}).values()
        found |= dict.fromkeys(said, file.name)
    return found


def _reads(text: str) -> bool:
    return len(re.findall(r"[A-Za-z]{2,}", text)) >= 2 and " " in text.strip()


def _prose(node: ast.AST) -> Iterator[ast.JoinedStr | ast.Constant]:
    if isinstance(node, ast.Raise | ast.Assert):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if _RAISED.search(name) or any(keyword.arg in {"found", "expected"} for keyword in node.keywords):
            return
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _prose(child) if not isinstance(node, ast.JoinedStr) else ()


def _fill(node: ast.JoinedStr | ast.Constant) -> list[str]:
    """The string with its gaps filled in; both of them where a gap is a choice between two strings."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    texts = [""]
    for part in node.values:
        if isinstance(part, ast.Constant):
            choices = [str(part.value)]
        else:
            assert isinstance(part, ast.FormattedValue)
            choices = _choices(part.value)
            if part.format_spec and ast.unparse(part.format_spec).endswith("%'"):
                choices = ["7%"]
        texts = [text + choice for text in texts for choice in choices]
    return texts


def _choices(value: ast.expr) -> list[str]:
    if isinstance(value, ast.IfExp):
        return [*_choices(value.body), *_choices(value.orelse)]
    if isinstance(value, ast.Constant | ast.JoinedStr):
        return _fill(value)
    if isinstance(value, ast.Call):
        value = value.func
    return [_SAMPLES.get(value.id, "7") if isinstance(value, ast.Name) else "7"]


def english_runs(text: str) -> list[str]:
    """Two or more English words in a row."""
    return re.findall(r"(?<![\w./'-])[A-Za-z][a-z']+(?:[ ,;:]+[A-Za-z][a-z']+)+(?![\w./-])", text)
