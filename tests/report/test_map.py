"""The map beyond layers: what the comparison holds is shown with its numbers, what it lacks leaves no trace."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.report.map_parts import block, heads, merges, moved_experts, source, tensors, upcycled_experts
from tests.report.samples import SAMPLES, related, upcycled

from homolog.report.absence import shorten_reason
from homolog.report.columns import arrange_columns
from homolog.report.derived import arrange_derived
from homolog.report.document import arrange
from homolog.report.experts import arrange_experts
from homolog.report.heads import arrange_heads
from homolog.report.html import render
from homolog.report.tensors import arrange_tensors


def test_experts_of_a_dense_model_are_a_grid() -> None:
    arranged = arrange_experts(upcycled_experts(5, 8, 144))
    assert arranged is not None
    grid = arranged["grid"]
    assert grid["columns"] == ["shared", *map(str, range(8))]
    assert [row["layer"] for row in grid["rows"]] == [0, 1, 2, 3, 4]
    assert [cell["text"] for cell in grid["rows"][0]["cells"]] == ["100", *["75"] * 8]
    assert grid["rows"][0]["cells"][1]["says"] == "108 of 144 units of the FFN of layer 0 of A"
    # what came from another layer says so
    assert {cell["elsewhere"] for cell in grid["rows"][4]["cells"]} == {"3"}
    assert {cell["elsewhere"] for cell in grid["rows"][1]["cells"]} == {""}


def test_experts_that_moved_are_matrices() -> None:
    arranged = arrange_experts(moved_experts(3, 4, 32))
    assert arranged is not None
    assert arranged["grid"] is None
    first = arranged["matrices"][0]
    assert (first["rows"], first["columns"], first["from"]) == (3, 4, "0")
    size = float(first["width"]) / 4
    places = [(round(float(cell["y"]) / size), round(float(cell["x"]) / size)) for cell in first["cells"]]
    # rows are B's experts 1, 2, 3 and hold A's 0, 1, 2
    assert places == [(0, 0), (1, 1), (2, 2)]
    assert arranged["permuted"]
    lost = [row for row in arranged["from_a"] if row["found"] == "0"]
    assert [row["block"] for row in lost] == [f"expert 3 of layer {layer} of A" for layer in range(3)]


def test_many_experts_stay_small() -> None:
    sample = upcycled()
    sample["derivation"]["experts"] = upcycled_experts(24, 40, 64)
    page = render(sample)
    assert len(page.encode()) < 2_000_000
    assert "684 more are in the JSON output" in page


def test_an_expert_with_two_sources_names_both() -> None:
    row = block(0, 0, 10) | {"new": 0, "carried": 10, "copied": 0, "order": "none"}
    row["sources"] = [source(0, 1, 6, 10, 10), source(1, 2, 4, 10, 10)]
    arranged = arrange_experts({"rows": [row], "from_a": [], "permuted": False, "left_out": 0, "absent": None})
    assert arranged is not None
    assert arranged["table"][0]["sources"] == (
        "6 of 10 units of expert 1 of layer 0 of A; 4 of 10 units of expert 2 of layer 1 of A"
    )


def test_tensors_are_signs_by_layer() -> None:
    arranged = arrange_tensors(tensors(5))
    assert arranged is not None
    rows = {row["name"]: [cell["sign"] for cell in row["cells"]] for row in arranged["grid"]["rows"]}
    assert rows["attn.q"] == ["■", "○", "○", "○", "■"]
    assert rows["ffn.up"] == ["◧", "○", "○", "○", "■"]
    assert rows["ffn.router"] == ["+"] * 5
    assert [(cell["name"], cell["sign"]) for cell in arranged["grid"]["outside"]] == [
        ("embed.token", "×"),
        ("norm.final", "▣"),
    ]
    assert ("◧", "some of each") in arranged["signs"]


def test_tensors_that_all_changed_need_no_grid() -> None:
    found = tensors(3)
    found["rows"] = [row | {"state": "changed"} for row in found["rows"]]
    found |= {"frozen": 0, "near_frozen": 0, "replaced": 0, "new": 0, "changed": len(found["rows"])}
    arranged = arrange_tensors(found)
    assert arranged is not None
    assert arranged["grid"] is None


def test_merges_are_drawn_with_their_intervals() -> None:
    drawn: dict[str, Any] = {}
    arranged = arrange_derived({"merges": merges(4)}, drawn)
    assert arranged is not None
    assert arranged["merges"]["names"] == ["A", "P2 other-child"]
    assert [row["layer"] for row in arranged["merges"]["rows"]] == ["outside the layers", "0", "1", "2", "3"]
    assert [point["low"] for point in drawn["merges"]["datasets"]["parent_0"]] == pytest.approx([0.61, 0.6, 0.59, 0.58])


def test_what_is_absent_leaves_no_trace() -> None:
    absent = {"absent": "no relation was found", "rows": [], "matrices": [], "b": 0}
    assert arrange_derived({}, {}) is None
    assert arrange_derived({"experts": absent, "vocabulary": absent, "tensors": absent, "low_rank": absent}, {}) is None
    assert '<h2 id="parts">' not in render(related())


def test_every_number_of_the_map_is_on_the_page() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", render(upcycled())))
    for said in (
        "Where the experts came from",
        "288 new",
        "512 tokens in A, 528 in B, 500 in both",
        "Bit-identical tensors hold 41 % of B’s numbers.",
        "12 of 21 matrices that changed differ from A’s by a matrix of rank 8",
        "0.600 of A, 0.400 of P2",
        "0.600 (0.590 to 0.610)",
        "A and B both descend from C",
        "upcycled into experts; vocabulary changed.",
    ):
        assert said in text, said


def test_columns_count_units_where_all_were_counted() -> None:
    columns = arrange_columns(upcycled())
    assert columns is not None
    assert columns["b"][0]["percent"] == "78 %"
    assert columns["b"][0]["extras"] == ["bit-identical", "288 new", "864 copies", "2 pruned"]
    assert columns["b"][3]["extras"][-1] == "reordered"


def test_a_share_of_samples_is_not_left_alone_where_all_units_were_counted() -> None:
    sample = upcycled()
    sample["inherited"] |= {"share": 1.0, "low": 0.99, "high": 1.0, "units": 720, "inherited": 720}
    assert "In all FFNs, counted in full: 5,040 of 6,480 units, 78 %." in render(sample)
    assert "counted in full:" not in render(upcycled())


@pytest.mark.parametrize(
    ("relation", "directions", "said"),
    [
        ("undirected", ["a_to_b", "a_to_b"], "but B did not come before A"),
        ("undirected", ["b_to_a"], "but A did not come before B"),
        ("undirected", ["a_to_b", "b_to_a"], "Direction unknown"),
        ("undirected", [], "Direction unknown"),
        ("a_to_b", ["a_to_b"], "Direction: from A to B"),
    ],
)
def test_an_excluded_order_is_said_where_the_direction_is_open(relation: str, directions: list[str], said: str) -> None:
    sample = upcycled() | {"relation": relation}
    facts = [{"kind": "rows_decayed", "direction": order, "text": "a fact"} for order in directions]
    sample["derivation"]["direction"] = {"relation": relation, "facts": facts, "why": None}
    assert said in arrange(sample)["relation"]


def test_facts_say_in_which_order_they_hold() -> None:
    sample = upcycled()
    sample["derivation"]["direction"] = {
        "relation": "a_to_b",
        "facts": [
            {"kind": "rows_decayed", "direction": "a_to_b", "text": "rows decayed"},
            {"kind": "other", "direction": "b_to_a", "text": "blocks repeat"},
        ],
        "why": "two facts disagree",
    }
    sample["derivation"]["facts"] = ["rows decayed", "blocks repeat", "the head exists in B only"]
    assert arrange(sample)["facts"] == [
        ("A → B", "rows decayed"),
        ("B → A", "blocks repeat"),
        ("Fact", "the head exists in B only"),
        ("Direction", "two facts disagree"),
    ]


def test_columns_stay_legible_and_bounded() -> None:
    for layers, lowest, highest in ((5, 150, 300), (24, 400, 700), (48, 600, 900), (80, 900, 1100)):
        sample = related()
        sample["a"]["dims"]["layers"] = layers
        sample["derivation"]["layers"] = [
            {"b": b, "sources": [{"model": "a", "layer": b, "share": 1.0}], "frozen": False} for b in range(layers)
        ]
        columns = arrange_columns(sample)
        assert columns is not None
        assert lowest <= float(columns["height"]) <= highest
        assert all(row["number"] for row in columns["b"])
        for row in sample["derivation"]["layers"]:
            row["sources"] = []
        untraced = arrange_columns(sample)
        assert untraced is not None
        assert float(untraced["height"]) <= 260


def test_reasons_that_differ_in_numbers_are_said_once() -> None:
    alike = "every group was left out: size follows index (z = -10.5); size follows index (z = 3.0); the row is zero"
    assert (
        shorten_reason(alike)
        == "every group was left out: size follows index (z = -10.5); the row is zero; 1 more alike"
    )
    assert shorten_reason("one reason; another") == "one reason; another"
    assert shorten_reason("") == ""


@pytest.mark.parametrize("name", list(SAMPLES))
def test_the_line_of_operations_names_all_of_them(name: str) -> None:
    sample = SAMPLES[name]()
    done = arrange(sample)["done"]
    kinds = {step["kind"] for step in sample["derivation"]["operations"]}
    assert len([part for part in done.split("; ") if part]) == len(kinds)


def test_heads_that_stayed_are_one_sentence() -> None:
    sample = related()
    for layer in sample["derivation"]["layers"]:
        layer["heads"] = heads([0, 1, 2, 3], 4)
    arranged = arrange_heads(sample["derivation"]["layers"])
    assert arranged is not None
    assert arranged["all"]
    assert arranged["grid"] is None
    page = render(sample)
    assert f"All {4 * len(sample['derivation']['layers'])} attention heads of B are heads of A, in their order." in page
    assert "Heads by layer" not in page
    assert "注意力头都是 A 的注意力头" in render(sample, lang="zh")


def test_heads_that_moved_are_a_grid() -> None:
    layers: list[Any] = [
        {"b": 0, "heads": heads([0, 1, 2], 3)},
        {"b": 1, "heads": heads([2, None, 0], 3)},
        {"b": 2, "heads": heads([0, 1], 3)},
        {"b": 3, "heads": heads([None, None, None], 0) | {"groups_of_a": 0, "missing": 0}},
        {"b": 4, "heads": None},
    ]
    layers[1]["heads"]["values"] = "mixed"
    arranged = arrange_heads(layers)
    assert arranged is not None
    assert (arranged["n"], arranged["of"], arranged["moved"], arranged["mixed"]) == ("7", "11", "1", "1")
    assert arranged["missing"] == "2"
    assert arranged["grid"]["layers"] == [0, 1, 2, 3]
    texts = [[cell["text"] for cell in row["cells"]] for row in arranged["grid"]["rows"]]
    assert texts == [["0", "2", "0", "–"], ["1", "–", "1", "–"], ["2", "0", "", "–"]]
    assert [cell["state"] for cell in arranged["grid"]["rows"][0]["cells"]] == ["frozen", "moved", "frozen", "new"]
    assert [row["values"] for row in arranged["table"]] == ["kept", "mixed", "kept", "–"]


def test_heads_that_were_not_looked_up_leave_no_trace_or_their_reason() -> None:
    assert arrange_heads([{"b": 0}, {"b": 1, "heads": None}, {"b": 2, "heads": heads([None], 0)}]) is None
    why = heads([], 0) | {"absent": "layer 0 of A: it holds numbers that are not finite"}
    arranged = arrange_heads([{"b": 0, "heads": why}])
    assert arranged is not None
    assert arranged["absent"] == ["layer 0 of A: it holds numbers that are not finite"]
    assert arranged["table"] == []
