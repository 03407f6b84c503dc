"""The pieces of which the sample comparisons are built: models, groups, findings, matrices, exhibits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

_UNIT = "is uniformly random in at least one of the two models, whatever the other one is."
_NULLS = {
    "ffn.rows": f"Which FFN unit carries which index {_UNIT}",
    "ffn.profiles": f"Which profile (log norms and cosines of gate, up and down) carries which index {_UNIT}",
    "channels.columns": f"Which residual channel carries which index {_UNIT}",
    "channels.profiles": f"Which channel, by its norm in every matrix, carries which index {_UNIT}",
    "values.rows": f"Which dimension of a value head carries which index {_UNIT}",
    "experts.rows": f"Which expert of a layer carries which index {_UNIT}",
    "tokens.untrained": f"Which never-trained token has which row {_UNIT}",
}


def _log10_factorial(k: int) -> float:
    return math.lgamma(k + 1) / math.log(10)


def _tail(k: int, kind: str, of: int) -> float:
    if kind == "lis":
        return min(0.0, _log10_factorial(of) - 2 * _log10_factorial(k) - _log10_factorial(of - k))
    return min(0.0, -_log10_factorial(k))


def group(probe: str, at: tuple[int, int], seen: int, of: int, similarity: float, kind: str = "fixed_points") -> Json:
    where = {"channels.columns": "embedding", "channels.profiles": "all layers", "tokens.untrained": "embedding"}
    expected = 1.0 if kind == "fixed_points" else 2 * math.sqrt(of)
    frame = "none" if probe.endswith("profiles") else "identity"
    b, a = at
    return {
        "group": where.get(probe, f"layer {b}"),
        "b_layer": -1 if probe in where else b,
        "a_layer": -1 if probe in where else a,
        "statistic": seen,
        "kind": kind,
        "matched": max(seen, of // 3),
        "of": of,
        "expected": round(expected, 2),
        "log10_p": round(_tail(seen, kind, of), 2),
        "frame": frame,
        "median_similarity": similarity,
    }


def finding(probe: str, groups: list[Json], absent_groups: dict[str, str] | None = None) -> Json:
    """A finding over its groups, with the null curve of the best."""
    best = min(groups, key=lambda group: group["log10_p"])
    of, kind, tests = best["of"], best["kind"], 2 * len(groups)
    # As the real object: the curve stops a little after the observed value, or where chance has long run out.
    ks = list(range(0, min(of, max(best["statistic"], 40)) + 1))
    seen = sum(group["statistic"] for group in groups)
    expected = float(len(groups))
    support = min(0.0, (seen - expected - seen * math.log(seen / expected)) / math.log(10)) if seen > expected else 0.0
    return {
        "probe": probe,
        "tier": 1,
        "null": {"id": f"exchangeable-{probe.replace('.', '-')}", "text": _NULLS[probe]},
        "statistic": best["statistic"],
        "of": of,
        "log10_p": round(min(0.0, best["log10_p"] + math.log10(tests)), 2),
        "tests": tests,
        "absent": None,
        "absent_groups": absent_groups or {},
        "groups": groups,
        "total": {
            "statistic": seen,
            "of": sum(group["of"] for group in groups),
            "expected": expected,
            "log10_p": round(support, 1),
        }
        if len(groups) > 1 and kind == "fixed_points"
        else {},
        "effect": {"median_similarity": best["median_similarity"]},
        "null_curve": {"k": ks, "log10_tail": [round(_tail(k, kind, of), 3) for k in ks]},
    }


def absent(probe: str, reason: str) -> Json:
    """A finding that could not be had."""
    return {
        "probe": probe,
        "tier": 1,
        "null": {"id": f"exchangeable-{probe.replace('.', '-')}", "text": _NULLS[probe]},
        "statistic": None,
        "of": None,
        "log10_p": None,
        "tests": 0,
        "absent": reason,
        "absent_groups": {},
        "groups": [],
        "total": {},
        "effect": {},
        "null_curve": {"k": [], "log10_tail": []},
    }


def model(name: str, architecture: str, shape: tuple[int, int, int, int], **more: Any) -> Json:
    layers, width, ffn, vocab = shape
    heads = max(1, width // 64)
    parameters = more.get("parameters", layers * (4 * width * width + 2 * width * ffn) + vocab * width)
    nbytes = more.get("nbytes", 4 * parameters + 10_433)
    read = more.get("read", nbytes)
    return {
        "id": name,
        "format": more.get("format", "safetensors"),
        "architecture": architecture,
        "parameters": parameters,
        "digest": "sha256:" + random.Random(name).randbytes(32).hex(),
        "dims": {
            "layers": layers,
            "width": width,
            "ffn": ffn,
            "vocab": vocab,
            "heads": heads,
            "kv_heads": more.get("kv_heads", heads),
            "head_dim": 64,
            "experts": 0,
        },
        "dtypes": {more.get("dtype", "F32"): parameters},
        "files": more.get("files", [{"name": "model.safetensors", "bytes": nbytes}]),
        "read": {"bytes": read, "of": nbytes, "requests": more.get("requests", 207)},
        "notes": more.get("notes", []),
    }


def counts(
    shape: tuple[int, int], of: int, source: Callable[[int], tuple[int, float] | None], seed: int
) -> list[list[int]]:
    draw, (rows, columns) = random.Random(seed), shape
    cells = [[draw.choice((0, 0, 1, 1, 1, 2, 2, 3)) for _ in range(columns)] for _ in range(rows)]
    for b in range(rows):
        found = source(b)
        if found is not None:
            cells[b][found[0]] = round(of * found[1])
    return cells


def _curves(layers: int, seed: int, noise: float) -> dict[str, list[float]]:
    shape, jitter = random.Random(7), random.Random(seed)
    curves = {}
    for kind, level in (("q", 0.052), ("k", 0.05), ("v", 0.036), ("o", 0.033)):
        a, b, c = (shape.uniform(-1, 1) for _ in range(3))
        curves[kind] = [
            round(
                level
                * (1 + 0.16 * a * x + 0.12 * b * math.sin(3 * x) + 0.08 * c * math.cos(7 * x) + jitter.gauss(0, noise)),
                5,
            )
            for x in (i / max(1, layers - 1) for i in range(layers))
        ]
    return curves


def exhibits(
    layers: tuple[int, int], noise: float, correlation: tuple[float, ...], gains: tuple[float, float], *, seed: int
) -> Json:
    draw = random.Random(seed)
    return {
        "std_curves": {
            "a": _curves(layers[0], 1, 0.004),
            "b": _curves(layers[1], 2, noise),
            "correlation": dict(zip("qkvo", correlation, strict=True)),
            "background": {
                "text": "correlations of Q, K, V and O over 15 pairs of separately trained models of one shape",
                "values": [round(1 - abs(draw.gauss(0, 0.22)), 3) for _ in range(60)],
            },
        },
        "norm_gains": {
            "cosine": [round(draw.uniform(*gains), 4) for _ in range(layers[1])],
            "background": {
                "text": "cosines over the layers of the same 15 pairs",
                "values": [round(draw.uniform(0.93, 0.998), 4) for _ in range(45)],
            },
        },
    }


def comparison(a: Json, b: Json, **parts: Any) -> Json:
    base: Json = {
        "schema": "homolog.comparison/1",
        "a": a,
        "b": b,
        "verdict": "inconclusive",
        "relation": None,
        "sentence": "",
        "reason": None,
        "tier": 1,
        "log10_p": None,
        "strength": "",
        "threshold_log10_p": -9.0,
        "planned_tests": 74,
        "inherited": None,
        "ruled_out": [],
        "not_ruled_out": ["distilled"],
        "not_ruled_out_why": {
            "distilled": "Distillation copies what a model says, not its weights; no reading of weights can see it."
        },
        "findings": [],
        "initialisation": {
            "verdict": "not_asked",
            "evidence": {},
            "text": "Nothing is shared, so the question does not arise.",
        },
        "layer_matrix": None,
        "derivation": {"layers": [], "operations": [], "frozen_share": 0.0, "facts": []},
        "exhibits": {},
        "warnings": [],
        "provenance": {
            "homolog": "0.1.0",
            "command": f"homolog compare {a['id']} {b['id']}",
            "options": {"seed": 0, "units": 64},
        },
        "run": {"seconds": 0.7, "peak_bytes": 91_000_000},
    }
    return base | parts


def agreement(layers: int, value: float, seed: int) -> Json:
    """Tier 2 of two models of equal depth: every layer's share near ``value``, and heat that alignment brings out."""
    draw = random.Random(seed)
    shares = [min(1.0, max(0.0, value - draw.uniform(0, 0.04))) for _ in range(layers)]
    cold = [[round(draw.choice((0, 0, 0, 0.01)), 4) for _ in range(layers)] for _ in range(layers)]
    warm = [[round(shares[b], 4) if a == b else cold[a][b] for a in range(layers)] for b in range(layers)]
    rows = [{"layer": i, "source": i, "share": round(share, 6)} for i, share in enumerate(shares)]
    return {
        "statistic": "body_agreement",
        "tier": 2,
        "null": {"id": "independent-models-of-the-bank", "text": "Trained independently, as the models of the bank."},
        "value": value,
        "log10_p": -2.326 if value > 0.05 else 0.0,
        "thresholds": {"share": 0.5, "times_the_bank": 3.0},
        "b_in_a": rows,
        "a_in_b": rows,
        "given_frame": [],
        "fit": 0.97,
        "bank": {"most": 0.046875, "models": 211, "pairs": 1388, "histogram": [1340, 48] + [0] * 38, "outside": []},
        "heat": {"a": list(range(layers)), "b": list(range(layers)), "units": 128, "stored": cold, "fitted": warm},
        "absent": None,
    }
