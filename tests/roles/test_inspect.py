"""What an inspection says, and that it notices numbers that cannot be trusted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.roles.cases import case
from tests.roles.memory import MemoryCheckpoint

from homolog.roles.inspect import inspect

LLAMA = case("llama", "untied")
LAYER = "model.layers.1.mlp.up_proj.weight"


def llama(**replaced: np.ndarray) -> MemoryCheckpoint:
    """A healthy llama of random numbers, with some tensors replaced; dots are written as double underscores."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LLAMA.tensors.items()}
    arrays |= {name.replace("__", "."): array for name, array in replaced.items()}
    return MemoryCheckpoint(arrays, LLAMA.config)


def changed(position: tuple[int, int], value: float) -> MemoryCheckpoint:
    checkpoint = llama()
    checkpoint.arrays[LAYER][position] = value
    return checkpoint


@pytest.mark.parametrize("values", [False, True])
def test_a_healthy_checkpoint_has_no_warnings(values: bool) -> None:
    found = inspect(llama(), values=values)
    assert found.warnings == ()
    assert (found.architecture, found.format, found.tensors) == ("llama", "safetensors", len(LLAMA.tensors))
    assert found.parameters == sum(int(np.prod(shape)) for shape in LLAMA.tensors.values())
    assert found.dtypes == {"F32": found.parameters}
    assert len(found.roles) == len(LLAMA.tensors)
    assert sum(role.role.endswith("ffn.up weight") for role in found.roles) == 3


def test_what_is_decoded_on_reading_is_named_as_it_is_kept() -> None:
    checkpoint = llama()
    kept = replace(checkpoint.tensors[LAYER], lattice="int4, a scale for every 128 numbers")
    checkpoint.tensors = {**checkpoint.tensors, LAYER: kept}
    found = inspect(checkpoint)
    assert found.dtypes == {"F32": found.parameters - kept.size, "int4": kept.size}
    assert [role.role for role in found.roles if role.dtype == "int4"] == ["layer 1 ffn.up weight"]


def test_all_numbers_are_read_only_if_asked_for() -> None:
    wide = np.random.default_rng(1).normal(size=(40, 4096)).astype(np.float32)
    checkpoint = MemoryCheckpoint({"wide": wide})
    assert inspect(checkpoint).read["bytes"] == 4096 * 4
    assert inspect(checkpoint, values=True).read == {"bytes": wide.nbytes, "of": wide.nbytes, "requests": 1}


def test_nan_and_infinities_are_found_wherever_they_are() -> None:
    assert inspect(changed((0, 0), np.nan), values=True).warnings == (f"1 tensor contains NaN: {LAYER}",)
    assert inspect(changed((23, 15), -np.inf), values=True).warnings == (f"1 tensor contains infinities: {LAYER}",)
    whole = llama()
    whole.arrays[LAYER][:] = np.nan
    assert inspect(whole).warnings == (f"1 tensor contains NaN in the rows that were sampled: {LAYER}",)


def test_zeroed_and_constant_tensors_are_named() -> None:
    checkpoint = llama()
    zeroed = [name for name in LLAMA.tensors if ".layers.2." in name]
    for name in zeroed:
        checkpoint.arrays[name][:] = 0
    checkpoint.arrays["model.norm.weight"][:] = 1
    found = inspect(checkpoint, values=True)
    assert found.flaws.zero == tuple(sorted(zeroed))
    assert found.flaws.constant == ("model.norm.weight",)
    assert found.warnings[0].startswith(f"{len(zeroed)} tensors are all zero: {sorted(zeroed)[0]}, ")
    assert found.warnings[0].endswith(f"and {len(zeroed) - 3} more")
    assert found.warnings[1] == "1 tensor has one value throughout: model.norm.weight"


def test_a_zero_first_row_is_no_flaw() -> None:
    checkpoint = llama()
    checkpoint.arrays["model.embed_tokens.weight"][0] = 0
    assert inspect(checkpoint, values=False).warnings == ()


def test_what_is_missing_unknown_or_strange_is_a_warning() -> None:
    rest = llama()
    partial = {name: array for name, array in rest.arrays.items() if name != LAYER}
    assert inspect(MemoryCheckpoint(partial, LLAMA.config)).warnings == (f"missing: layer 1 ffn.up weight ({LAYER})",)
    strange = llama(key=np.array([1.0, 2.0], dtype=np.float32))
    assert inspect(strange).warnings == ("1 tensor has no role in this family, for example key",)
    unknown = inspect(MemoryCheckpoint({"a.b": np.array([[1.0, 2.0]], dtype=np.float32)}))
    assert unknown.architecture == "unknown"
    assert unknown.warnings[0].startswith("the architecture is unknown: no tensor is named like")


def test_fixed_tables_and_buffers_are_constant_by_design() -> None:
    one = case("torch_transformer_encoder", "tutorial")
    rng = np.random.default_rng(2)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in one.tensors.items()}
    arrays["pos_encoder.pe"][:] = 0
    assert inspect(MemoryCheckpoint(arrays), values=True).warnings == ()


def test_the_json_and_the_html_are_the_same_each_time() -> None:
    first, second = inspect(llama()), inspect(llama())
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())
    data = first.to_json()
    assert data["schema"] == "homolog.inspection/1"
    assert data["dims"]["width"] == 16
    assert {"role", "tensor", "axes", "shape", "dtype"} == set(data["roles"][0])
    assert "<td>llama</td>" in first._repr_html_()


def test_hostile_names_are_escaped() -> None:
    found = inspect(MemoryCheckpoint({"<script>alert(1)</script>": np.zeros((2, 2), dtype=np.float32)}))
    assert "<script>" not in found._repr_html_()
