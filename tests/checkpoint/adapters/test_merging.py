"""Adapters merged on reading, against PEFT's own merging and against matrices multiplied by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.checkpoint.writers import AnyArray, encode_safetensors

from homolog import compare, make_sketch
from homolog.checkpoint.adapters import split_address
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import CheckpointError, IncompleteCheckpoint, MalformedCheckpoint, UnsupportedFormat

REFERENCE = Path(__file__).parent / "reference"
BASES = {"conv1d": "gpt2", "saved": "llama-biased"}
CASES = sorted(folder.name for folder in REFERENCE.iterdir() if folder.name != "bases")
ZOO = Path("tests/zoo")


def base_of(case: str) -> Path:
    return REFERENCE / "bases" / BASES.get(case, "llama")


def write_lora(
    folder: Path,
    tensors: Mapping[str, AnyArray],
    *,
    rank: int = 4,
    alpha: float = 8,
    base: str = "somebody/base",
    **settings: Any,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "base_model_name_or_path": base, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(
        encode_safetensors({f"base_model.model.{name}": array for name, array in tensors.items()})
    )
    return folder


def draw_lora(
    model: Path, *, kinds: tuple[str, ...] = ("q_proj", "up_proj"), rank: int = 4, size: float = 0.05
) -> dict[str, AnyArray]:
    """A LoRA for a model, drawn."""
    random = np.random.default_rng(5)
    tensors: dict[str, AnyArray] = {}
    with open_checkpoint(model) as checkpoint:
        for name, info in checkpoint.tensors.items():
            if name.removesuffix(".weight").endswith(kinds):
                module = name.removesuffix(".weight")
                tensors[f"{module}.lora_A.weight"] = random.normal(size=(rank, info.shape[1])).astype(np.float32)
                tensors[f"{module}.lora_B.weight"] = (size * random.normal(size=(info.shape[0], rank))).astype(
                    np.float32
                )
    return tensors


@pytest.mark.parametrize("case", CASES)
def test_the_merged_model_is_pefts(case: str) -> None:
    base = base_of(case)
    with np.load(REFERENCE / case / "merged.npz") as changed, open_checkpoint(base) as plain:
        with open_checkpoint(f"{base}+{REFERENCE / case / 'adapter'}") as merged:
            assert set(merged.tensors) == set(plain.tensors)
            for name in merged.tensors:
                expected = changed[name] if name in changed.files else plain.read_rows(name)
                ours = merged.read_rows(name)
                assert np.abs(ours - expected).max() <= 1e-6 * np.abs(expected).max(), name
                last = len(ours) - 1
                assert np.allclose(merged.read_rows(name, last), ours[last:], rtol=1e-5, atol=1e-7)
                ids = [last, 0, 2, 0]
                assert np.allclose(merged.read_rows_at(name, ids), ours[ids], rtol=1e-5, atol=1e-7)
        assert changed.files


@pytest.mark.parametrize("case", CASES)
def test_only_the_rows_asked_for_are_read(case: str) -> None:
    adapter = REFERENCE / case / "adapter"
    with open_checkpoint(f"{base_of(case)}+{adapter}") as merged, open_checkpoint(base_of(case)) as plain:
        name = next(name for name, info in merged.tensors.items() if info.nbytes > plain.tensors[name].nbytes)
        before = merged.meter.bytes
        merged.read_rows(name, 0, 1)
        first = merged.meter.bytes - before
        merged.read_rows(name, 1, 2)
        second = merged.meter.bytes - before - first
        assert second <= first < merged.tensors[name].nbytes


def test_the_address_splits_where_the_adapter_is(tmp_path: Path) -> None:
    model = tmp_path / "a+b"
    shutil.copytree(base_of("plain"), model)
    adapter = tmp_path / "lora+c++"
    shutil.copytree(REFERENCE / "plain" / "adapter", adapter)
    assert split_address(model) is None
    assert split_address(f"{model}+{adapter}") == (str(model), adapter)
    assert split_address(f"org/name@v1+{adapter}") == ("org/name@v1", adapter)
    assert split_address(f"{model}+{model}") is None
    with open_checkpoint(f"{model}+{adapter}") as merged:
        assert "an adapter is merged on reading: LoRA of rank 4 on 6 matrices, scale 2" in " ".join(merged.notes)
        assert "example/tiny" in " ".join(merged.notes)


def test_a_lora_goes_onto_a_quantised_base(tmp_path: Path) -> None:
    """Also onto GPTQ, whose matrices lie input × output."""
    from tests.checkpoint.quant.quantisers import quantise_folder

    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a"))
    name = "model.layers.2.self_attn.q_proj.weight"
    for form in ("gptq", "nf4"):
        base = quantise_folder(ZOO / "a", tmp_path / form, form)
        with open_checkpoint(f"{base}+{adapter}") as merged, open_checkpoint(base) as plain:
            with open_checkpoint(f"{ZOO / 'a'}+{adapter}") as whole, open_checkpoint(ZOO / "a") as a:
                delta = whole.read_rows(name) - a.read_rows(name)
            change = merged.read_rows(name) - plain.read_rows(name)
            assert merged.tensors[name].transposed == (form == "gptq")
            assert np.abs(change - (delta.T if form == "gptq" else delta)).max() < 1e-6


def test_a_merged_model_compares_as_one(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a", kinds=("q_proj", "v_proj", "up_proj", "gate_proj")))
    found = compare(ZOO / "a", f"{ZOO / 'a'}+{adapter}")
    assert found.verdict.verdict == "related"
    twin = compare(ZOO / "b", f"{ZOO / 'a'}+{adapter}")
    assert twin.verdict.verdict == "independent"


def test_merging_equals_a_saved_merge(tmp_path: Path) -> None:
    """The merged address and the same merge written to disk give one answer."""
    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a"))
    saved = tmp_path / "saved"
    shutil.copytree(ZOO / "a", saved)
    with open_checkpoint(f"{ZOO / 'a'}+{adapter}") as merged:
        arrays = {name: merged.read_rows(name) for name in merged.tensors}
    (saved / "model.safetensors").write_bytes(encode_safetensors(arrays))
    assert compare(saved, f"{ZOO / 'a'}+{adapter}").verdict.verdict == "identical"


def test_a_lora_alone_is_a_fact_and_no_evidence(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a"), base="zoo/a")
    for base in ("a", "b"):
        for pair in ((ZOO / base, adapter), (adapter, ZOO / base)):
            found = compare(*pair)
            side = "B" if pair[1] is adapter else "A"
            assert found.verdict.verdict == "inconclusive"
            assert found.exit_code == 3
            reason = str(found.verdict.reason)
            assert f"{side} is an adapter alone: it declares zoo/a as its base" in reason
            assert "10 of the 10 matrices that it changes are in the other model" in reason
            assert "no evidence" in reason
            assert "BASE+ADAPTER" in reason
    other = compare(ZOO / "g", adapter)
    assert "0 of the 10 matrices" in str(other.verdict.reason)
    both = compare(adapter, adapter)
    assert both.verdict.verdict == "inconclusive"
    assert "changes 10 of the 10 matrices that the other changes" in str(both.verdict.reason)


def _renamed(old: str, new: str) -> dict[str, AnyArray]:
    return {name.replace(old, new): array for name, array in draw_lora(ZOO / "a").items()}


Q = "model.layers.0.self_attn.q_proj"
BAD: dict[str, tuple[dict[str, AnyArray], dict[str, Any], type[CheckpointError], str]] = {
    "half a pair": ({f"{Q}.lora_A.weight": np.ones((4, 64), np.float32)}, {}, IncompleteCheckpoint, "lora_B"),
    "another kind": ({}, {"peft_type": "IA3"}, UnsupportedFormat, "'IA3'"),
    "a kind that is a list": ({}, {"peft_type": ["LORA"] * 1000}, UnsupportedFormat, "peft_type"),
    "a base that was changed first": ({}, {"init_lora_weights": "pissa_niter_4"}, UnsupportedFormat, "pissa"),
    "layers replicated": ({}, {"layer_replication": [[0, 2], [1, 3]]}, UnsupportedFormat, "layer_replication"),
    "a pattern that is an expression": (
        {},
        {"alpha_pattern": {"(a+)+$": 4}},
        UnsupportedFormat,
        "module names, not expressions",
    ),
    "patterns that are a list": ({}, {"rank_pattern": [1]}, MalformedCheckpoint, "rank_pattern"),
    "another rank": ({}, {"r": 8}, MalformedCheckpoint, "expected 4"),
    "an alpha of NaN": ({}, {"lora_alpha": float("nan")}, MalformedCheckpoint, "finite number"),
    "an alpha that is text": ({}, {"lora_alpha": "8"}, MalformedCheckpoint, "finite number"),
    "a module that is not there": (_renamed("q_proj", "z_proj"), {}, MalformedCheckpoint, "no such tensor in the base"),
    "a base of other shapes": (_renamed("up_proj", "down_proj"), {}, MalformedCheckpoint, "in the base"),
    "inputs for outputs": ({}, {"fan_in_fan_out": True}, MalformedCheckpoint, "fan_in_fan_out"),
    "ranks that differ": (
        {f"{Q}.lora_A.weight": np.ones((4, 64), np.float32), f"{Q}.lora_B.weight": np.ones((64, 3), np.float32)},
        {},
        MalformedCheckpoint,
        "outputs × rank",
    ),
    "halves that are whole numbers": (
        {f"{Q}.lora_A.weight": np.ones((4, 64), np.int8), f"{Q}.lora_B.weight": np.ones((64, 4), np.int8)},
        {},
        MalformedCheckpoint,
        "floats",
    ),
    "two adapters in one": (
        {
            f"{Q}.lora_A.one.weight": np.ones((4, 64), np.float32),
            f"{Q}.lora_A.two.weight": np.ones((4, 64), np.float32),
        },
        {},
        MalformedCheckpoint,
        "second tensor",
    ),
    "norms of another length": (
        {**draw_lora(ZOO / "a"), f"{Q}.lora_magnitude_vector": np.ones(3, np.float32)},
        {},
        MalformedCheckpoint,
        "64 norms",
    ),
    "parts of a later LoRA": (
        {f"{Q}.lora_A.weight.bias_k": np.ones(4, np.float32)},
        {},
        UnsupportedFormat,
        "does not merge",
    ),
    "no LoRA at all": ({"score.weight": np.ones((2, 64), np.float32)}, {}, MalformedCheckpoint, "no LoRA"),
}


@pytest.mark.parametrize("fault", BAD)
def test_an_adapter_that_does_not_fit_is_refused(fault: str, tmp_path: Path) -> None:
    tensors, settings, kind, says = BAD[fault]
    adapter = write_lora(tmp_path / "lora", tensors or draw_lora(ZOO / "a"), **{"rank": 4, **_without_rank(settings)})
    with pytest.raises(CheckpointError, match=says.replace("(", r"\(")) as caught:
        open_checkpoint(f"{ZOO / 'a'}+{adapter}")
    assert type(caught.value) is kind
    assert caught.value.path.is_relative_to(adapter)


def _without_rank(settings: dict[str, Any]) -> dict[str, Any]:
    return {{"r": "rank", "lora_alpha": "alpha"}.get(key, key): value for key, value in settings.items()}


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b'{"peft_type": "LORA"' + b" " * (11 << 20) + b"}"])
def test_a_config_that_is_none_is_refused(text: bytes, tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a"))
    (adapter / "adapter_config.json").write_bytes(text)
    with pytest.raises(MalformedCheckpoint):
        open_checkpoint(f"{ZOO / 'a'}+{adapter}")


def test_weights_missing_or_elsewhere(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a"))
    weights = adapter / "adapter_model.safetensors"
    weights.rename(tmp_path / "outside.safetensors")
    with pytest.raises(IncompleteCheckpoint, match="no weights of the adapter"):
        open_checkpoint(f"{ZOO / 'a'}+{adapter}")
    weights.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match="a link to"):
        open_checkpoint(f"{ZOO / 'a'}+{adapter}")


def test_nan_in_an_adapter_comes_through(tmp_path: Path) -> None:
    tensors = draw_lora(ZOO / "a")
    tensors[f"{Q}.lora_B.weight"][3] = np.nan
    adapter = write_lora(tmp_path / "lora", tensors)
    with open_checkpoint(f"{ZOO / 'a'}+{adapter}") as merged:
        rows = merged.read_rows(f"{Q}.weight")
    assert np.isnan(rows[3]).all()
    assert np.isfinite(np.delete(rows, 3, axis=0)).all()


def test_a_half_precision_adapter_counts(tmp_path: Path) -> None:
    tensors = {name: array.astype(ml_dtypes.bfloat16) for name, array in draw_lora(ZOO / "a").items()}
    adapter = write_lora(tmp_path / "lora", tensors, alpha=4)
    name = f"{Q}.weight"
    with open_checkpoint(f"{ZOO / 'a'}+{adapter}") as merged, open_checkpoint(ZOO / "a") as base:
        a, b = (tensors[f"{Q}.lora_{half}.weight"].astype(np.float32) for half in "AB")
        assert np.allclose(merged.read_rows(name), base.read_rows(name) + b @ a, atol=1e-6)


def test_a_merged_model_is_sketched_as_one(tmp_path: Path) -> None:
    """With a digest of every tensor; beside the base, beside the merged weights themselves, and beside a twin."""
    adapter = write_lora(tmp_path / "lora", draw_lora(ZOO / "a"), alpha=4)
    merged = f"{ZOO / 'a'}+{adapter}"
    stored = make_sketch(merged, tmp_path / "merged.hsk", full=True)
    assert stored.tensors is not None
    digests = {tensor.name: tensor.sha256 for tensor in stored.tensors}
    with open_checkpoint(merged) as model, open_checkpoint(ZOO / "a") as base:
        assert digests.keys() == base.tensors.keys()
        for name in (f"{Q}.weight", "model.embed_tokens.weight"):
            rows = model.read_rows(name).tobytes() if name.startswith(Q) else base.read_bytes(name)
            assert digests[name] == f"sha256:{hashlib.sha256(rows).hexdigest()}"
    assert compare(ZOO / "a", tmp_path / "merged.hsk").verdict.verdict == "related"
    assert compare(tmp_path / "merged.hsk", merged).verdict.verdict == "identical"
    assert compare(ZOO / "b", tmp_path / "merged.hsk").verdict.verdict == "independent"
