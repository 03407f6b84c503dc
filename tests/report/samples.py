"""Comparison objects that look like real ones, built in plain Python: for the tests of the report and for looking at it."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.report.map_parts import given, low_rank, merges, tensors, upcycled_experts, vocabulary
from tests.report.sample_parts import Json, absent, agreement, comparison, counts, exhibits, finding, group, model


def related() -> Json:
    """A fine-tuned BERT of 12 layers."""
    n, of = 12, 512
    draw = random.Random(3)
    rows = [group("ffn.rows", (i, i), of - draw.choice((0, 0, 1, 3)), of, 0.97 - 0.01 * i) for i in range(n)]
    rows[0] = group("ffn.rows", (0, 0), of, of, 0.98)
    profiles = [group("ffn.profiles", (i, i), 488 - 14 * i + draw.randrange(9), of, 0.94) for i in range(n)]
    values = [group("values.rows", (i, i), 64 - draw.randrange(3), 64, 0.95) for i in range(n)]
    return comparison(
        model(
            "models/bert_pretrained",
            "bert",
            (n, 256, 512, 591),
            format="torch-legacy",
            nbytes=27_016_467,
            read=26_966_960,
            files=[{"name": "pytorch_model.bin", "bytes": 27_016_467}],
            parameters=6_754_383,
        ),
        model(
            "models/bert_ft",
            "bert",
            (n, 256, 512, 591),
            format="torch-legacy",
            nbytes=27_011_288,
            read=26_963_864,
            files=[{"name": "pytorch_model.bin", "bytes": 27_011_288}],
            parameters=6_753_024,
            notes=["tensors lack the prefix “bert.”; read as the same names"],
        ),
        verdict="related",
        relation="undirected",
        sentence="The weights support common descent: 12 of 12 layers of bert_ft keep the unit indices of bert_pretrained, where a "
        "separately trained model shares about one unit of 512 by chance.",
        log10_p=-1161.2,
        strength="beyond any reasonable doubt about chance (capped at 1e-30)",
        inherited={"share": 0.98, "of": "ffn units of B", "low": 0.97, "high": 0.99, "units": 6144, "inherited": 6021},
        not_ruled_out=["distilled", "units_permuted_and_residual_rotated"],
        not_ruled_out_why={
            "distilled": "Copying what a model says leaves no trace in the weights; it may have happened besides.",
            "units_permuted_and_residual_rotated": "A second source that was reordered and rotated would not be seen by these tests.",
        },
        findings=[
            finding("ffn.rows", rows),
            finding("ffn.profiles", profiles[:11], {"layer 11": "norms follow the index in both models"}),
            finding("channels.columns", [group("channels.columns", (-1, -1), 256, 256, 0.99)]),
            finding("channels.profiles", [group("channels.profiles", (-1, -1), 241, 256, 0.91)]),
            finding("values.rows", values),
            absent("experts.rows", "neither model has experts"),
            absent(
                "tokens.untrained", "no tokenizer beside the weights, so no token is known never to occur in training"
            ),
        ],
        initialisation={
            "verdict": "trained_together",
            "evidence": {
                "gain_correlation": 0.97,
                "profile_log10_p": -900.0,
                "bias_correlation": 0.99,
                "token_ratio": 0.95,
            },
            "text": "What training writes is shared too: norm gains and biases, which start out constant, agree channel by channel. "
            "A shared starting point alone does not do that.",
        },
        layer_matrix={
            "statistic": "index matches among sampled FFN units",
            "of": 64,
            "expected": 1.0,
            "rows": "layers of B",
            "columns": "layers of A",
            "counts": counts((n, n), 64, lambda b: (b, 1 - 0.006 * b), 5),
        },
        derivation={
            "layers": [
                {"b": i, "sources": [{"model": "a", "layer": i, "share": round(0.99 - 0.004 * i, 3)}], "frozen": False}
                for i in range(n)
            ],
            "operations": [{"kind": "continued_training", "detail": "every tensor moved; cosines 0.91–0.99"}],
            "frozen_share": 0.0,
            "facts": ["The classification head exists in bert_ft only."],
        },
        exhibits=exhibits((n, n), 0.006, (0.93, 0.9, 0.8, 0.95), (0.985, 0.9995), seed=11),
    )


def independent() -> Json:
    """Two trainings of one configuration, from different seeds."""
    n, of = 3, 256
    draw = random.Random(9)

    def groups(probe: str, size: int, few: tuple[int, ...]) -> list[Json]:
        return [group(probe, (i, i), draw.choice(few), size, 0.31) for i in range(n)]

    return comparison(
        model(
            "SCEPTR", "torch-transformer-encoder", (n, 64, 256, 30), format="torch-zip", parameters=153_656, requests=61
        ),
        model(
            "SCEPTR_MLM_only",
            "torch-transformer-encoder",
            (n, 64, 256, 30),
            format="torch-zip",
            parameters=153_656,
            requests=61,
        ),
        verdict="independent",
        sentence="No sign of common descent: which index a unit has in SCEPTR_MLM_only says nothing about SCEPTR, as expected of "
        "models that were trained separately.",
        log10_p=-0.21,
        strength="what chance alone does",
        planned_tests=16,
        ruled_out=[
            {
                "operation": "continued_training",
                "share": 0.06,
                "text": "would have been found had at least 6 % of one layer's sampled units kept their index",
            },
            {
                "operation": "layers_dropped",
                "share": 0.34,
                "text": "would have been found had one layer of three been carried over",
            },
            {"operation": "frozen_core", "share": 0.0, "text": "no tensor that training moves is bit-identical"},
        ],
        not_ruled_out=["distilled", "units_permuted_and_residual_rotated"],
        not_ruled_out_why={
            "distilled": "Distillation copies what a model says, not its weights; no reading of weights can see it.",
            "units_permuted_and_residual_rotated": "Reordering every neuron and rotating the residual stream at once removes every "
            "index; these tests do not see through both together.",
        },
        findings=[
            finding("ffn.rows", groups("ffn.rows", of, (1, 2, 1, 3))),
            finding("ffn.profiles", groups("ffn.profiles", of, (0, 1, 2))),
            absent("channels.columns", "the token tables are fixed constants that no training moved"),
            finding("channels.profiles", [group("channels.profiles", (-1, -1), 2, 64, 0.4)]),
            finding("values.rows", groups("values.rows", 8, (0, 1, 2))),
            absent("experts.rows", "neither model has experts"),
            absent("tokens.untrained", "the token tables are fixed constants that no training moved"),
        ],
        layer_matrix={
            "statistic": "index matches among sampled FFN units",
            "of": 64,
            "expected": 1.0,
            "rows": "layers of B",
            "columns": "layers of A",
            "counts": counts((n, n), 64, lambda _: None, 4),
        },
        derivation={
            "layers": [{"b": i, "sources": [], "frozen": False} for i in range(n)],
            "operations": [],
            "frozen_share": 0.0,
            "facts": ["Shared component: the fixed token table is bit-identical in both; nobody trained it."],
        },
        exhibits=exhibits((n, n), 0.03, (0.99, 0.97, 0.62, 0.95), (0.95, 0.997), seed=12),
        warnings=["The layers of each model began as copies of one layer; they share one labelling and count once."],
    )


def shared_initialisation() -> Json:
    """The same seed, trained on other data."""
    n, of = 6, 64
    rows = [group("ffn.rows", (i, i), 60 - 2 * i, of, 0.71) for i in range(n)]
    profiles = [group("ffn.profiles", (i, i), (1, 2, 0, 3, 1, 1)[i], of, 0.36) for i in range(n)]
    return comparison(
        model("zoo/twin-a", "llama", (n, 128, 352, 4096), requests=98, read=2_400_112),
        model("zoo/twin-b-other-data", "llama", (n, 128, 352, 4096), requests=98, read=2_400_112),
        verdict="shared_initialisation",
        relation="undirected",
        sentence="The two models began from the same random start and were then trained separately: the indices agree, and what "
        "training writes does not. That is not descent.",
        log10_p=-74.8,
        strength="beyond any reasonable doubt about chance (capped at 1e-30)",
        planned_tests=40,
        findings=[
            finding("ffn.rows", rows),
            finding("ffn.profiles", profiles),
            finding("channels.columns", [group("channels.columns", (-1, -1), 121, 128, 0.66)]),
            finding("channels.profiles", [group("channels.profiles", (-1, -1), 2, 128, 0.3)]),
            finding("values.rows", [group("values.rows", (i, i), 31 - 3 * i, 64, 0.5) for i in range(n)]),
            absent("experts.rows", "neither model has experts"),
            finding("tokens.untrained", [group("tokens.untrained", (-1, -1), 13, 13, 0.99)]),
        ],
        initialisation={
            "verdict": "initialisation_only",
            "evidence": {
                "gain_correlation": 0.13,
                "profile_log10_p": -0.4,
                "bias_correlation": None,
                "token_ratio": 0.48,
            },
            "text": "Norm gains start out constant, so only training can make them agree: they do not. Frequent tokens, which training "
            "moves most, agree half as well as tokens that training never saw.",
        },
        layer_matrix={
            "statistic": "index matches among sampled FFN units",
            "of": 64,
            "expected": 1.0,
            "rows": "layers of B",
            "columns": "layers of A",
            "counts": counts((n, n), 64, lambda b: (b, 0.94 - 0.03 * b), 6),
        },
        derivation={
            "layers": [
                {"b": i, "sources": [{"model": "a", "layer": i, "share": round(0.94 - 0.03 * i, 3)}], "frozen": False}
                for i in range(n)
            ],
            "operations": [],
            "frozen_share": 0.0,
            "facts": [],
        },
        exhibits=exhibits((n, n), 0.02, (0.98, 0.96, 0.91, 0.97), (0.98, 0.998), seed=13),
    )


def partly_related() -> Json:
    """48 layers that hold 32 inherited ones, a wider FFN, a frozen core and 16 new layers between."""
    n, m, of = 48, 32, 64
    source = {b: b - b // 3 for b in range(n) if b % 3 != 2}
    draw = random.Random(21)
    rows = []
    for b, a in source.items():
        kept = 64 if 9 <= b <= 21 else 58 + draw.randrange(6)
        rows.append(group("ffn.rows", (b, a), kept, of, 0.98 if kept == 64 else 0.9, "lis"))
    profiles = [group("ffn.profiles", (b, a), 50 + draw.randrange(12), of, 0.88, "lis") for b, a in source.items()]
    values = [group("values.rows", (b, a), 55 + draw.randrange(9), 64, 0.9) for b, a in source.items()]
    new = {f"layer {b}": "no layer of A is closer than the others" for b in range(n) if b not in source}
    return comparison(
        model(
            "org/base-7b@main",
            "qwen2",
            (m, 4096, 11_008, 151_936),
            dtype="BF16",
            parameters=7_615_616_512,
            nbytes=15_231_271_888,
            read=48_234_496,
            requests=612,
            kv_heads=8,
            files=[{"name": f"model-0000{i}-of-00004.safetensors", "bytes": 3_807_817_972} for i in range(1, 5)],
        ),
        model(
            "other-org/grown-11b",
            "qwen2",
            (n, 4096, 13_824, 151_936),
            dtype="BF16",
            parameters=11_410_000_000,
            nbytes=22_820_000_512,
            read=70_143_232,
            requests=884,
            kv_heads=8,
            files=[{"name": f"model-0000{i}-of-00005.safetensors", "bytes": 4_564_000_102} for i in range(1, 6)],
        ),
        verdict="partly_related",
        relation="a_to_b",
        sentence="The weights support common descent for 32 of 48 layers of grown-11b: they keep the unit order of base-7b, nine "
        "of them bit by bit; 16 layers and 2,816 units a layer are new.",
        log10_p=-87.3,
        strength="beyond any reasonable doubt about chance (capped at 1e-30)",
        planned_tests=388,
        inherited={"share": 0.53, "of": "ffn units of B", "low": 0.5, "high": 0.56, "units": 3072, "inherited": 1628},
        not_ruled_out=["distilled"],
        findings=[
            finding("ffn.rows", rows, new),
            finding("ffn.profiles", profiles, new),
            finding("channels.columns", [group("channels.columns", (-1, -1), 509, 512, 0.97)]),
            finding("channels.profiles", [group("channels.profiles", (-1, -1), 466, 512, 0.9)]),
            finding("values.rows", values, new),
            absent("experts.rows", "neither model has experts"),
            finding("tokens.untrained", [group("tokens.untrained", (-1, -1), 52, 52, 0.81)]),
        ],
        initialisation={
            "verdict": "trained_together",
            "evidence": {
                "gain_correlation": 0.92,
                "profile_log10_p": -61.0,
                "bias_correlation": 0.96,
                "token_ratio": 0.93,
            },
            "text": "Norm gains and biases of the inherited layers agree channel by channel; a shared start alone does not do that.",
        },
        layer_matrix={
            "statistic": "index matches among sampled FFN units",
            "of": of,
            "expected": 1.0,
            "rows": "layers of B",
            "columns": "layers of A",
            "counts": counts(
                (n, m), of, lambda b: (source[b], 1.0 if 9 <= b <= 21 else 0.9) if b in source else None, 8
            ),
        },
        derivation={
            "layers": [
                {
                    "b": b,
                    "sources": [{"model": "a", "layer": source[b], "share": 0.8 if 9 <= b <= 21 else 0.74}]
                    if b in source
                    else [],
                    "frozen": b in source and 9 <= b <= 21,
                }
                for b in range(n)
            ],
            "operations": [
                {"kind": "layers_added", "detail": "16 layers, one after every two"},
                {"kind": "ffn_widened", "detail": "11,008 → 13,824 units, the new ones at the end"},
                {"kind": "frozen_core", "detail": "layers 9–21: inherited tensors are bit-identical"},
                {"kind": "continued_training", "detail": "the other inherited layers moved; cosines 0.88–0.97"},
            ],
            "frozen_share": 0.19,
            "facts": ["Layers were inserted into a complete stack: the larger model is the later one."],
        },
        exhibits=exhibits((m, n), 0.05, (0.88, 0.71, 0.64, 0.9), (0.9, 0.999), seed=14),
        warnings=[
            "model-00003-of-00005.safetensors holds 2 NaN in model.layers.47.mlp.up_proj.weight; that layer was left out."
        ],
    )


def aligned() -> Json:
    """A copy whose units were reordered and whose inner space was rotated: found by its bodies alone."""
    n, of = 12, 64
    rows = [group("ffn.rows", (i, i), (1, 0, 2)[i % 3], of, 0.2) for i in range(n)]
    return comparison(
        model("zoo/known", "llama", (n, 64, 128, 512)),
        model("zoo/hidden", "llama", (n, 64, 128, 512)),
        verdict="related",
        relation="undirected",
        tier=2,
        sentence="The weights support common descent, on calibrated and not exact evidence: 98% of the FFN units of the median layer have "
        "one partner in the other model that all their vectors point to, whatever the order of units and the basis of the residual stream; "
        "1388 pairs of independent models reach 4.7% at most.",
        log10_p=-2.326,
        strength="beyond all 1388 pairs of 211 independent models; calibrated, so that no figure below 1 in 212 can be given",
        inherited={"share": 0.97, "of": "ffn units of B", "low": 0.95, "high": 0.98, "units": 1536, "inherited": 1490},
        findings=[
            finding("ffn.rows", rows),
            absent(
                "ffn.profiles",
                "every group was left out: the units may not be exchangeable (z = -10.5); the units may not be exchangeable (z = 11.0); "
                "the units may not be exchangeable (z = -9.3)",
            ),
            finding("channels.columns", [group("channels.columns", (-1, -1), 1, 64, 0.2)]),
        ],
        agreement=agreement(n, 0.98, 4),
        derivation={
            "layers": [
                {"b": i, "sources": [{"model": "a", "layer": i, "share": 0.97}], "frozen": False} for i in range(n)
            ],
            "operations": [
                {"kind": "units_permuted", "detail": "98% of the units have one partner, at another index"},
                {"kind": "residual_rotated", "detail": "each residual channel of A is spread over many of B"},
            ],
            "frozen_share": 0.0,
            "facts": [],
        },
        exhibits=exhibits((n, n), 0.02, (0.9, 0.95, 0.85, 0.97), (0.98, 0.998), seed=15),
    )


def upcycled() -> Json:
    """A dense model made into a mixture of experts, with every other part of the map there is."""
    n, of = 5, 144
    rows = [
        group("ffn.rows", (i, i), of, of, 0.98) | {"group": f"layer {i} shared expert ← layer {i}"} for i in range(n)
    ]
    units = {"b": 1296, "a": 144, "carried": 1008, "new": 288, "copied": 864, "split": 0, "pruned": 2, "widened": 1152}
    return comparison(
        model("zoo/q", "qwen2", (n, 64, 144, 512)),
        model("zoo/q-upcycled", "qwen2_moe", (n, 64, 144, 528)),
        verdict="related",
        relation="a_to_b",
        sentence="The weights support common descent: 144 of 144 FFN units of layer 0 shared expert ← layer 0 most resemble the "
        "one of A with the same index, where independent training gives about 1.",
        log10_p=-247.2,
        strength="chance would do this less than once in 10^30",
        inherited={"share": 0.78, "of": "ffn units of B", "low": 0.76, "high": 0.8, "units": 6480, "inherited": 5040},
        findings=[finding("ffn.rows", rows), absent("experts.rows", "not a mixture of experts in both models")],
        derivation={
            "layers": [
                {
                    "b": i,
                    "sources": [{"model": "a", "layer": i, "share": 1.0}],
                    "frozen": i == 0,
                    "units": units | {"order": "permuted" if i == 3 else "kept"},
                }
                for i in range(n)
            ],
            "operations": [
                {"kind": "upcycled", "detail": "FFNs of A stand among the 8 experts of B's layers"},
                {"kind": "vocabulary_changed", "detail": "512 rows in A, 528 in B"},
            ],
            "frozen_share": 0.2,
            "facts": ["FFNs of A stand several times in B"],
            "experts": upcycled_experts(n, 8, of),
            "vocabulary": vocabulary(),
            "tensors": tensors(n),
            "low_rank": low_rank(n),
            "merges": merges(n),
            "given": given(),
        },
        exhibits=exhibits((n, n), 0.02, (0.9, 0.95, 0.85, 0.97), (0.98, 0.998), seed=16),
    )


def inconclusive() -> Json:
    """An architecture whose axes are ordered by design, and no tokenizer."""
    return comparison(
        model("models/encoder-a", "bert", (6, 384, 1536, 30_522), requests=35, read=1_204_224),
        model("models/unknown-b", "unknown", (0, 0, 0, 0), parameters=22_713_216, requests=9, read=73_728)
        | {"dims": None},
        verdict="inconclusive",
        sentence="No conclusion: the tensors of unknown-b fit no known family, so no test could be run on them.",
        reason="unknown-b: 24 tensors have no known role (first: blk.0.w_in); no test of Tier 1 has both sides.",
        log10_p=None,
        strength="",
        planned_tests=3,
        not_ruled_out=["continued_training", "layers_dropped", "distilled", "renamed"],
        not_ruled_out_why={
            "distilled": "Distillation copies what a model says, not its weights; no reading of weights can see it."
        },
        findings=[
            absent("ffn.rows", "no FFN was recognised in B"),
            absent("ffn.profiles", "no FFN was recognised in B"),
            finding("channels.columns", [group("channels.columns", (-1, -1), 2, 96, 0.22)]),
            absent("channels.profiles", "no FFN was recognised in B"),
            absent("values.rows", "no attention was recognised in B"),
            absent("experts.rows", "neither model has experts"),
            absent("tokens.untrained", "no tokenizer beside the weights of B"),
        ],
        initialisation={"verdict": "not_asked", "evidence": {}, "text": ""},
        exhibits={"std_curves": None, "norm_gains": None},
        warnings=["The config of unknown-b says 12 layers; the tensor names show 6. The names were believed."],
    )


HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>{{7*7}}\u202egnp.\x1b[31m'\"&"


def hostile_map() -> Json:
    """All that a map can bring of a hostile string."""
    parts = {
        "vocabulary": vocabulary(),
        "tensors": tensors(4),
        "low_rank": low_rank(4),
        "merges": merges(4),
        "given": given(),
    }
    parts["vocabulary"] |= {"how": HOSTILE, "tables": {HOSTILE: parts["vocabulary"]["tables"]["embed"]}}
    parts["tensors"]["rows"][0] |= {"kind": HOSTILE, "part": HOSTILE}
    parts["low_rank"]["matrices"][0]["kind"] = HOSTILE
    parts["merges"] |= {"text": HOSTILE, "models": [{"model": "a", "id": "a"}, {"model": "p2", "id": HOSTILE}]}
    parts["given"] |= {"model": HOSTILE, "text": HOSTILE, "values": {HOSTILE: HOSTILE}}
    return parts


def hostile() -> Json:
    """The related sample with a hostile string wherever a checkpoint or its path can put one."""
    sample = related()
    for side in ("a", "b"):
        sample[side]["id"] = f"{side}-{HOSTILE}"
        sample[side]["architecture"] = HOSTILE
        sample[side]["files"] = [{"name": HOSTILE, "bytes": 10}]
        sample[side]["notes"] = [HOSTILE]
    sample["sentence"] += HOSTILE
    sample["strength"] += HOSTILE
    sample["warnings"] = [HOSTILE]
    sample["findings"][0]["groups"][0]["group"] = HOSTILE
    sample["findings"][0]["absent_groups"] = {HOSTILE: HOSTILE}
    sample["findings"][-1]["absent"] = HOSTILE
    sample["findings"].append(absent("values.rows", HOSTILE) | {"probe": HOSTILE})
    sample["derivation"]["facts"] = [HOSTILE]
    sample["derivation"]["operations"].append({"kind": HOSTILE, "detail": HOSTILE})
    sample["exhibits"]["std_curves"]["background"]["text"] = HOSTILE
    sample["derivation"] |= hostile_map()
    sample["provenance"]["command"] = f"homolog compare '{HOSTILE}' b"
    sample["not_ruled_out"].append(HOSTILE)
    return sample


SAMPLES: dict[str, Callable[[], Json]] = {
    "related": related,
    "independent": independent,
    "shared_initialisation": shared_initialisation,
    "partly_related": partly_related,
    "aligned": aligned,
    "upcycled": upcycled,
    "inconclusive": inconclusive,
}
