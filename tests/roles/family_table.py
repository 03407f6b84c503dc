"""The table of families in docs/adding-a-family.md, from the family files:

python -m tests.roles.family_table
"""

from __future__ import annotations

from pathlib import Path

from homolog.roles.architecture import load_architectures

__all__ = ["PAGE", "family_table"]

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-family.md"
START, END = "<!-- families: start -->\n", "<!-- families: end -->\n"


def family_table() -> str:
    """One line a family; the layouts of llama.cpp stand for all the families that it converts, and are left out."""
    families = [family for family in load_architectures() if not family.id.startswith("gguf")]
    lines = [f"| `{family.id}` | {family.title} | {family.source} |" for family in families]
    return "\n".join(["| id | models | where the names were read |", "|---|---|---|", *lines]) + "\n"


def kept_table() -> str:
    """The table as it stands on the page."""
    return PAGE.read_text("utf-8").split(START)[1].split(END)[0]


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    PAGE.write_text(before + START + family_table() + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
