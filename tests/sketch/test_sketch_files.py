"""Sketch files: the same bytes for the same model, what they hold, how little that is, and what comes out of comparing them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compare.disguise import load, rotation, save, turn_residual
from tests.naive import sketches as naive
from tests.sketch.synthetic import CONFIG_14B, QWEN_14B, DrawnCheckpoint

from homolog.comparison import Comparison
from homolog.pipeline import compare
from homolog.roles.resolve import resolve
from homolog.sketch.make import make_sketch, sketch_checkpoint
from homolog.sketch.opened import is_sketch, open_model
from homolog.sketch.storage import encode_sketch
from homolog.sketch.stored import SketchOptions, Stored, count_kept

ZOO = Path(__file__).parents[1] / "zoo"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``kept("a", dimensions=32)``: the sketch of that model of the zoo, made once."""
    folder = tmp_path_factory.mktemp("sketches")

    def make(name: str, **options: Any) -> Path:
        path = folder / f"{name}-{sorted(options.items())}.hsk"
        if not path.exists():
            make_sketch(ZOO / name, path, **options)
        return path

    return make


def _log10(comparison: Comparison) -> dict[str, float | None]:
    return {finding.probe: finding.log10_p for finding in comparison.findings}


def test_the_same_model_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    make_sketch(ZOO / "a", tmp_path / "one.hsk", full=True)
    shutil.copytree(ZOO / "a", tmp_path / "elsewhere")
    make_sketch(tmp_path / "elsewhere", tmp_path / "two.hsk", full=True)
    assert (tmp_path / "one.hsk").read_bytes() == (tmp_path / "two.hsk").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "one.hsk", "two.hsk"]


def test_reading_gives_back_what_was_written(kept: Callable[..., Path]) -> None:
    for options in ({}, {"dimensions": 32}, {"seed": 7, "dimensions": 16}):
        path = kept("a", **options)
        with open_model(path) as model:
            assert encode_sketch(model.stored) == path.read_bytes()  # type: ignore[attr-defined]
            assert model.format == "sketch"
            assert model.parameters == 250_560


def test_a_sketch_can_be_read_from_its_description_alone(kept: Callable[..., Path]) -> None:
    members = naive.read_members(kept("a", dimensions=32))
    manifest = naive.read_manifest(members)
    assert (manifest["format"], manifest["version"]) == ("homolog.sketch", 1)
    tensors = load(ZOO / "a")
    signs = np.array(naive.draw_signs(0, 64, 32))
    rows = naive.read_rows(members, "units.gate")
    start = 0
    for layer, expert, shared, width, count, flaw in manifest["blocks"]:
        assert (expert, shared, width, count, flaw) == (-1, 0, 128, 128, 0)
        at = f"model.layers.{layer}."
        stored = tensors[f"{at}mlp.gate_proj.weight"] * tensors[f"{at}post_attention_layernorm.weight"]
        expected = stored[:count] @ signs / math.sqrt(32)
        found = np.array(rows[start : start + count])
        steps = np.abs(expected).max(axis=1, keepdims=True) / 127
        assert (np.abs(found - expected) <= 0.51 * steps).all()
        start += count
    _, gains = naive.read_array(members["channels.npy"])
    roles = [tuple(role) for role in manifest["channels"]]
    third = roles.index(("norm.attn", "weight", 3, -1, 0, ""))
    assert gains[64 * third : 64 * third + 64] == tensors["model.layers.3.input_layernorm.weight"].tolist()
    _, ids = naive.read_array(members["tokens.id.npy"])
    (count, columns), table = naive.read_array(members["embed.columns.npy"])
    expected = tensors["model.embed_tokens.weight"][ids]
    assert np.array_equal(np.array(table, dtype=np.float32).reshape(count, columns), expected)


def test_projected_rows_keep_their_cosines_on_average() -> None:
    from homolog.sketch.projection import Projection

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 400)).astype(np.float32)
    exact = rows @ rows.T / 400
    close = np.mean([(p := Projection(seed, 64).apply(rows)) @ p.T / 400 for seed in range(60)], axis=0)
    assert np.abs(close - exact).max() < 5 * 1 / math.sqrt(64 * 60) * 1.5


def test_signs_are_those_of_the_description() -> None:
    from homolog.sketch.projection import Projection

    for seed, width, dimensions in ((0, 100, 9), (3, 65, 64)):
        expected = naive.draw_signs(seed, width, dimensions)
        assert Projection(seed, dimensions).signs(width).tolist() == expected


def test_a_model_of_14_billion_parameters_fits_into_two_megabytes() -> None:
    checkpoint = DrawnCheckpoint(QWEN_14B, CONFIG_14B)
    anatomy = resolve(checkpoint)
    stored = sketch_checkpoint(checkpoint, anatomy, SketchOptions(), lambda *_: None)
    body = encode_sketch(stored)
    assert 1_000_000 < len(body) <= 2_000_000
    held = count_kept(stored)
    assert not held["rows_can_be_rebuilt"]
    assert held["verbatim_share"] < 2e-5
    assert held["numbers_a_row"] == 160


def _kept_of(path: Path) -> dict[str, float]:
    with open_model(path) as model:
        stored: Stored = model.stored  # type: ignore[attr-defined]
        return count_kept(stored)


def test_what_is_kept_is_counted_and_rows_are_rebuilt_only_where_it_says_so(kept: Callable[..., Path]) -> None:
    tensors = load(ZOO / "a")
    truth = tensors["model.layers.0.mlp.up_proj.weight"] * tensors["model.layers.0.post_attention_layernorm.weight"]
    members = naive.read_members(kept("a", dimensions=16))
    signs = np.array(naive.draw_signs(0, 64, 16)) / 4.0
    rows = np.array(naive.read_rows(members, "units.up"))[:128]
    rebuilt = rows @ np.linalg.pinv(signs)
    left = np.linalg.norm(truth - rebuilt, axis=1) / np.linalg.norm(truth, axis=1)
    assert np.median(left) > 0.8  # 16 of 64 directions: the rest is not there

    whole = _kept_of(kept("a"))
    assert whole["rows_can_be_rebuilt"]
    assert whole["rows"] == 2 * 5 * 128 + 5 * 32 + 2 * 37
    assert whole["verbatim_numbers"] == 11 * 64 + 2 * 472 * 64
    same = np.array(naive.read_rows(naive.read_members(kept("a")), "units.up"))[:128]
    assert np.abs(same - truth).max() <= np.abs(truth).max() / 127


PAIRS = [
    ("a", "a-frozen-core"),
    ("a", "a-pruned"),
    ("a", "a-zh-1x"),
    ("a", "b"),
    ("a", "a-order2"),
    ("q", "q-upcycled"),
    ("b", "deep"),
]
"""All pairs of the zoo: benchmarks/sketches.py."""


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_sketches_say_what_the_weights_say(kept: Callable[..., Path], a: str, b: str) -> None:
    weights = compare(ZOO / a, ZOO / b)
    sketches = compare(kept(a, dimensions=32), kept(b, dimensions=32))
    mixed = compare(kept(a, dimensions=32), ZOO / b)
    assert sketches.verdict.verdict == mixed.verdict.verdict == weights.verdict.verdict
    assert all(any("forged" in warning for warning in x.warnings) for x in (sketches, mixed))
    if b != "a-pruned":  # of the wider FFN more units are read where one side is a checkpoint
        assert _log10(mixed) == _log10(sketches)


@pytest.mark.parametrize(("a", "b"), [("a", "a-washed"), ("a", "b-order2")])
def test_narrow_models_are_not_projected(kept: Callable[..., Path], a: str, b: str) -> None:
    weights, sketches = compare(ZOO / a, ZOO / b), compare(kept(a), kept(b))
    assert sketches.verdict.verdict == weights.verdict.verdict
    assert sketches.verdict.log10_p == pytest.approx(weights.verdict.log10_p, abs=0.5)


def test_a_rotated_copy_is_found_in_the_directions_of_its_tokens(kept: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    turned = save(turn_residual(load(ZOO / "a-zh-0.2x"), rotation(64, rng)), ZOO / "a", tmp_path / "turned")
    comparison = compare(kept("a", dimensions=32), turned)
    log10 = _log10(comparison)
    rows, aligned = log10["ffn.rows"], log10["ffn.rows.aligned"]
    assert rows is not None
    assert aligned is not None
    assert rows > -3
    assert aligned < -100
    assert comparison.verdict.found
    twin = save(turn_residual(load(ZOO / "b"), rotation(64, rng)), ZOO / "b", tmp_path / "twin")
    assert compare(kept("a", dimensions=32), twin).verdict.verdict == "independent"


def test_the_tokens_of_a_sketch_do_not_depend_on_their_places(kept: Callable[..., Path], tmp_path: Path) -> None:
    """A vocabulary in another order: rows of the tables and ids of the tokenizer permuted alike."""
    tensors = load(ZOO / "a-zh-0.2x")
    order = np.random.default_rng(1).permutation(512)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][order]
    places = np.argsort(order)
    folder = save(tensors, ZOO / "a", tmp_path / "reordered")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {token: int(places[i]) for token, i in tokenizer["model"]["vocab"].items()}
    for entry in tokenizer["added_tokens"]:
        entry["id"] = int(places[entry["id"]])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    make_sketch(folder, tmp_path / "reordered.hsk")
    columns = _log10(compare(kept("a"), tmp_path / "reordered.hsk"))["channels.columns"]
    assert columns is not None
    assert columns < -50


def test_other_seeds_leave_what_needs_no_seed(kept: Callable[..., Path]) -> None:
    comparison = compare(kept("a", dimensions=32), kept("a-washed", dimensions=32, seed=1))
    absent = {finding.probe: finding.absent for finding in comparison.findings}
    assert "different projections" in str(absent["ffn.rows"])
    assert "different projections" in str(absent["values.rows"])
    assert absent["ffn.profiles"] is None
    assert comparison.verdict.verdict == "related"
    cleared = compare(kept("a", dimensions=32), kept("b", dimensions=32, seed=1)).verdict
    assert cleared.verdict == "independent"
    assert "rescaled" in cleared.not_ruled_out or "rescaled" in {item.operation for item in cleared.ruled_out}


def test_identity_needs_a_digest_of_every_tensor_on_both_sides(kept: Callable[..., Path], tmp_path: Path) -> None:
    make_sketch(ZOO / "a", tmp_path / "full.hsk", full=True)
    make_sketch(ZOO / "a-washed", tmp_path / "washed.hsk", full=True)
    assert compare(tmp_path / "full.hsk", ZOO / "a").verdict.verdict == "identical"
    assert compare(tmp_path / "full.hsk", tmp_path / "full.hsk").verdict.verdict == "identical"
    assert compare(tmp_path / "full.hsk", kept("a")).verdict.verdict == "related"
    assert compare(tmp_path / "full.hsk", tmp_path / "washed.hsk").verdict.verdict == "related"


def test_the_unrecognised_and_the_flawed(tmp_path: Path, kept: Callable[..., Path]) -> None:
    tensors = load(ZOO / "a")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    tensors["model.layers.2.mlp.up_proj.weight"][:] = 0
    tensors["lm_head.weight"][:, :] = np.inf
    flawed = save(tensors, ZOO / "a", tmp_path / "flawed")
    make_sketch(flawed, tmp_path / "flawed.hsk")
    comparison = compare(kept("a"), tmp_path / "flawed.hsk")
    assert comparison.verdict.found
    shown = " ".join(comparison.warnings)
    assert "layer 1: contains NaN or Inf" in shown
    assert "layer 2: all zero" in shown
    json.dumps(comparison.to_json(), allow_nan=False)


def test_a_sketch_is_known_by_its_contents(kept: Callable[..., Path], tmp_path: Path) -> None:
    renamed = shutil.copy(kept("a"), tmp_path / "model.bin")
    assert is_sketch(renamed)
    assert not is_sketch(ZOO / "a" / "model.safetensors")
    assert not is_sketch(ZOO / "a")
    assert compare(renamed, ZOO / "a-washed").verdict.found
