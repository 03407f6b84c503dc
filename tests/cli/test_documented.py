from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from homolog.cli.app import app

_PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def _commands() -> dict[str, Any]:
    """The verbs by name; those of a group as ``group verb``, without the group itself."""
    found: dict[str, Any] = {"": typer.main.get_command(app)}
    for name, command in found[""].commands.items():
        found |= {f"{name} {verb}": inner for verb, inner in getattr(command, "commands", {}).items()} or {
            name: command
        }
    return found


def _section(verb: str) -> str:
    """What the page says of one verb; before the first verb it speaks of homolog itself."""
    sections = re.split(r"^## ", _PAGE, flags=re.MULTILINE)
    if not verb:
        return sections[0]
    return next((section for section in sections if section.startswith(f"`homolog {verb}")), "")


@pytest.mark.parametrize("verb", _commands())
def test_every_verb_and_option_is_documented(verb: str) -> None:
    section = _section(verb)
    assert section, f"docs/cli.md has no section on homolog {verb}"
    command = _commands()[verb]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")} | {"--help"}
    documented = set(re.findall(r"^\| `(--[a-z-]+)", section, flags=re.MULTILINE))
    assert documented == options


@pytest.mark.parametrize("verb", [verb for verb in _commands() if verb])
def test_arguments_and_defaults_are_documented(verb: str) -> None:
    section = _section(verb)
    for parameter in _commands()[verb].params:
        if parameter.param_type_name == "argument":
            assert parameter.metavar in section.splitlines()[0]
        elif type(parameter.default) is int:
            rows = [row for row in section.splitlines() if row.startswith(f"| `{parameter.opts[0]}")]
            assert f"| {parameter.default} |" in rows[0]


def test_every_help_text_is_one_sentence() -> None:
    for command in _commands().values():
        for parameter in command.params:
            assert parameter.help
            assert parameter.help[0].isupper()
