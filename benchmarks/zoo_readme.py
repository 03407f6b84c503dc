"""Write the table of tests/zoo/README.md anew from the truth records and recipes.

python -m benchmarks.zoo_readme
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from homolog.lab.recipe import RECIPES, read_comment

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "tests" / "zoo"
CLASSES = RECIPES.parent / "micro"


def row(folder: Path, truth: dict[str, Any]) -> str:
    """One model's line."""
    recipe = RECIPES / f"{folder.name}.toml"
    if not recipe.is_file():  # one of a class of micro-trainings, numbered at the end
        recipe = CLASSES / f"{folder.name.rpartition('-')[0]}.toml"
    about = read_comment(recipe) + (" Held out." if truth.get("held_out") else "")
    moved, loss = truth["moved"], truth["val_loss"]
    tokens = truth["tokens"] / 1e6
    return (
        f"| {folder.name} | {truth['parent'] or '–'} | {about} | {truth['parameters']:,} | {tokens:.2f} M "
        f"| {moved['relative_change']:.2f} / {moved['cosine']:.2f} | {loss['en']:.2f} / {loss['zh']:.2f} / {loss['code']:.2f} |"
    )


def rank(folder: Path, truth: dict[str, Any]) -> tuple[int, str]:
    """Bases first, then what shares their random numbers, then what descends from them."""
    kinds = {"base": 0, "shared_initialisation": 1}
    return kinds.get(truth["kind"], 2), folder.name


def main() -> None:
    """Rewrite the table and the counts above it."""
    models = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in ZOO.glob("*/truth.json")}
    rows = [row(folder, models[folder]) for folder in sorted(models, key=lambda f: rank(f, models[f]))]
    readme = ZOO / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, _, _ = text.partition("| model | parent |")
    size = sum(path.stat().st_size for folder in models for path in folder.iterdir()) / 1e6
    head = re.sub(r"\d+ tiny language models", f"{len(models)} tiny language models", head)
    head = re.sub(r"trained for it: [\d.]+ MB", f"trained for it: {size:.1f} MB", head)
    title = "| model | parent | what it is | parameters | tokens | moved | val loss en / zh / code |\n|---|---|---|---|---|---|---|"
    readme.write_text(head + "\n".join([title, *rows]) + "\n", encoding="utf-8")
    print(f"{len(models)} models, {size:.1f} MB")


if __name__ == "__main__":
    main()
