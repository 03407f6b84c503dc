"""The map beyond layers, as the JSON has it: experts, vocabulary, tensors, low-rank differences, a merge, a third model."""

from __future__ import annotations

from tests.report.sample_parts import Json

KINDS = ("attn.k", "attn.o", "attn.q", "attn.v", "ffn.down", "ffn.gate", "ffn.up", "norm.attn", "norm.ffn")


def block(layer: int, expert: int, units: int, *, shared: bool = False) -> Json:
    return {"layer": layer, "expert": expert, "shared": shared, "units": units}


def source(layer: int, expert: int, units: int, of: int, whole: int, *, shared: bool = False) -> Json:
    return {
        "model": "a",
        **block(layer, expert, units, shared=shared),
        "of": of,
        "share": units / whole,
        "covers": units / of,
    }


def upcycled_experts(layers: int, experts: int, units: int) -> Json:
    """A dense model whose FFN stands in a shared expert and, three quarters of each, in all others; the last layer's came from before."""
    rows = []
    for layer in range(layers):
        origin = max(0, layer - 1) if layer == layers - 1 else layer
        rows.append(
            block(layer, -1, units, shared=True)
            | {
                "new": 0,
                "carried": units,
                "copied": 0,
                "order": "kept",
                "sources": [source(origin, -1, units, units, units)],
            }
        )
        for expert in range(experts):
            kept = 3 * units // 4
            rows.append(
                block(layer, expert, units)
                | {"new": units - kept, "carried": kept, "copied": 0, "order": "permuted" if expert == 1 else "kept"}
                | {"sources": [source(origin, -1, kept, units, units)]}
            )
    targets = [block(0, expert, units) | {"share": 0.75} for expert in range(experts)]
    from_a = [block(layer, -1, units) | {"found": units, "targets": targets} for layer in range(layers)]
    return {"rows": rows, "from_a": from_a, "permuted": False, "left_out": 0, "absent": None}


def moved_experts(layers: int, experts: int, units: int) -> Json:
    """Every expert stands one further on than in A; one of A's went nowhere."""
    rows = [
        block(layer, (expert + 1) % experts, units)
        | {"new": 0, "carried": units, "copied": 0, "order": "kept"}
        | {"sources": [source(layer, expert, units, units, units)]}
        for layer in range(layers)
        for expert in range(experts - 1)
    ]
    from_a = [
        block(layer, expert, units)
        | {
            "found": units * (expert < experts - 1),
            "targets": [block(layer, expert + 1, units) | {"share": 1.0}] * (expert < experts - 1),
        }
        for layer in range(layers)
        for expert in range(experts)
    ]
    return {"rows": rows, "from_a": from_a, "permuted": True, "left_out": 0, "absent": None}


def vocabulary() -> Json:
    return {
        "a": 512,
        "b": 528,
        "joined": 500,
        "how": "by the bytes of the tokens (tokenizer.json, tokenizer.json)",
        "carried": 480,
        "identical": 12,
        "retrained": 20,
        "new": 28,
        "dropped": 12,
        "tables": {
            "embed": {"compared": 500, "identical": 12, "carried": 480, "retrained": 20, "median_cosine": 0.97},
            "unembed": {"compared": 500, "identical": 0, "carried": 470, "retrained": 30, "median_cosine": 0.95},
        },
        "bound": 0.5,
        "absent": None,
    }


def tensors(layers: int) -> Json:
    """Frozen but for the middle layers; routers are new, and one expert of a layer differs from the others."""

    def row(layer: int | None, kind: str, state: str, expert: int = -1) -> Json:
        source = None if layer is None or state == "new" else layer
        return {
            "layer": layer,
            "kind": kind,
            "part": "weight",
            "expert": expert,
            "shared": False,
            "source": source,
            "state": state,
            "change": None if state == "new" else 0.0 if state == "frozen" else 0.1,
            "covered": 1.0,
            "numbers": 4096,
        }

    rows = [
        row(layer, kind, "changed" if 0 < layer < layers - 1 and not kind.startswith("norm") else "frozen")
        for layer in range(layers)
        for kind in KINDS
    ]
    rows += [row(layer, "ffn.router", "new") for layer in range(layers)]
    rows += [
        row(0, "ffn.up", "changed", expert=3),
        row(None, "embed.token", "replaced"),
        row(None, "norm.final", "near_frozen"),
    ]
    counted = {
        state: sum(r["state"] == state for r in rows)
        for state in ("frozen", "near_frozen", "changed", "replaced", "new")
    }
    return {
        "compared": len(rows) - layers,
        **counted,
        "frozen_numbers": 0.41,
        "bound": 0.002,
        "rows": rows,
        "absent": None,
    }


def low_rank(layers: int) -> Json:
    matrices = [
        {"layer": layer, "kind": kind, "expert": -1, "shared": False, "rank": 8, "full": 64, "energy": 0.9999}
        for layer in range(1, layers - 1)
        for kind in KINDS[:4]
    ]
    return {"matrices": matrices, "tested": 7 * (layers - 2), "rank": 8, "absent": None}


def merges(layers: int) -> Json:
    rows = [
        {
            "b": b,
            "coefficients": [0.62 - 0.01 * b, 0.38 + 0.01 * b],
            "low": [0.61 - 0.01 * b, 0.37 + 0.01 * b],
            "high": [0.63 - 0.01 * b, 0.39 + 0.01 * b],
            "residual": 0.004,
            "tensors": 9,
            "collinear": False,
        }
        for b in range(-1, layers)
    ]
    return {
        "models": [{"model": "a", "id": "zoo/base"}, {"model": "p2", "id": "some/where/other-child"}],
        "coefficients": [
            {"model": "a", "value": 0.6, "low": 0.59, "high": 0.61},
            {"model": "p2", "value": 0.4, "low": 0.39, "high": 0.41},
        ],
        "layers": rows,
        "residual": 0.004,
        "kind": "linear",
        "spherical": 0.003,
        "free_sum": 1.0,
        "equal": [0.008, 0.004],
        "collinear": False,
        "condition": 3.2,
        "warnings": [],
        "text": "0.600 of A, 0.400 of P2; 0.4% of B's length is left over: B is their combination, rounded",
        "absent": None,
    }


def given() -> Json:
    return {
        "model": "zoo/third",
        "outcome": "sibling",
        "between": "c",
        "edges": [
            {"from": "c", "to": "a", "rows": 37, "numbers": 2368, "follow": 1.0, "back": 0.92},
            {"from": "c", "to": "b", "rows": 37, "numbers": 2368, "follow": 1.0, "back": 0.95},
        ],
        "apart": ["ab"],
        "values": {"a_in_b_since_c": 0.31, "b_in_a_since_c": 0.12},
        "thresholds": {"inherited": 0.8, "other": 0.6},
        "text": "A and B both descend from C, and neither from the other: B is no closer to A than that explains",
        "absent": None,
    }


def heads(sources: list[int | None], of: int) -> Json:
    """The heads of one layer of B, as many of A's as named."""
    known = [source for source in sources if source is not None]
    return {
        "b": len(sources),
        "a": of,
        "carried": len(known),
        "unrecognised": len(sources) - len(known),
        "copied": len(known) - len(set(known)),
        "missing": of - len(set(known)),
        "order": "none" if len(known) < 2 else "kept" if known == sorted(known) else "permuted",
        "sources": list(sources),
        "groups": list(sources),
        "groups_of_a": of,
        "likeness": 0.91 if known else None,
        "values": "kept" if known else "none",
        "values_left": 0.2 if known else None,
        "absent": None,
    }
