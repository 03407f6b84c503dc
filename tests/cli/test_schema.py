"""The JSON outputs keep to the schemas in the package, and the schemas name every key."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from tests.checkpoint.convert_gguf import convert
from tests.checkpoint.onnx_writers import encode_onnx
from tests.report import samples

from homolog.checkpoint.open import open_checkpoint
from homolog.roles.inspect import inspect

Run = Callable[..., subprocess.CompletedProcess[str]]

_RECEPTORS = "sceptr/_model_saves"
_BERTS = "rxnfp/models/transformers"


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(files("homolog").joinpath("schema", name).read_text(encoding="utf-8"))
    return schema


def _closed(schema: Any) -> Any:
    """The same schema, but with no room for keys that it does not name: for outputs of today."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(item) for key, item in schema.items()}
    if "properties" in closed and "required" in closed:
        closed["additionalProperties"] = False
    return closed


def _complaints(name: str, document: Any) -> list[str]:
    errors = Draft202012Validator(_closed(_schema(name))).iter_errors(document)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]


@pytest.mark.parametrize("name", ["comparison-1.json", "inspection-1.json"])
def test_the_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(_schema(name))


@pytest.mark.parametrize("sample", samples.SAMPLES)
def test_the_samples_of_the_report_are_comparisons(sample: str) -> None:
    assert _complaints("comparison-1.json", samples.SAMPLES[sample]()) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"verdict": "stolen"}, "verdict"),
        ({"log10_p": 0.5}, "log10_p"),
        ({"findings": [{}]}, "findings/0"),
        ({"more": 1}, ""),
        ({"schema": "homolog.comparison/2"}, "schema"),
    ],
)
def test_what_is_no_comparison_is_told(change: dict[str, Any], where: str) -> None:
    document = {**copy.deepcopy(samples.related()), **change}
    assert any(complaint.startswith(f"{where}:") for complaint in _complaints("comparison-1.json", document))


@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "a", "b", "code"),
    [
        ("rxnfp", f"{_BERTS}/bert_pretrained", f"{_BERTS}/bert_ft", 1),
        ("sceptr", f"{_RECEPTORS}/SCEPTR", f"{_RECEPTORS}/SCEPTR_MLM_only", 0),
        ("sceptr", f"{_RECEPTORS}/SCEPTR", f"{_RECEPTORS}/SCEPTR_finetuned", 1),
        ("sceptr", f"{_RECEPTORS}/SCEPTR", f"{_RECEPTORS}/SCEPTR", 1),
    ],
)
def test_real_comparisons_keep_to_the_schema_and_repeat_to_the_byte(
    real: Callable[[str], Path], homolog: Run, package: str, a: str, b: str, code: int
) -> None:
    outputs = []
    for _ in range(2):
        done = homolog("compare", real(package) / a, real(package) / b, "--json")
        assert (done.returncode, done.stderr) == (code, "")
        head, separator, _ = done.stdout.rpartition('\n  "run": ')
        assert separator
        outputs.append(head)
        assert _complaints("comparison-1.json", json.loads(done.stdout)) == []
    assert outputs[0] == outputs[1]


@pytest.mark.real
def test_what_cannot_be_compared_keeps_to_the_schema_too(
    real: Callable[[str], Path], homolog: Run, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    strange.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    done = homolog("compare", real("sceptr") / _RECEPTORS / "SCEPTR", strange, "--json")
    assert (done.returncode, done.stderr) == (3, "")
    document = json.loads(done.stdout)
    assert document["verdict"] == "inconclusive"
    assert document["reason"]
    assert _complaints("comparison-1.json", document) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "folder"), [("rxnfp", f"{_BERTS}/bert_ft"), ("sceptr", f"{_RECEPTORS}/SCEPTR_tiny")]
)
@pytest.mark.parametrize("options", [[], ["--values"]])
def test_real_inspections_keep_to_the_schema(
    real: Callable[[str], Path], homolog: Run, package: str, folder: str, options: list[str]
) -> None:
    done = homolog("inspect", real(package) / folder, "--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert _complaints("inspection-1.json", document) == []
    assert document["values"] == ("all" if options else "sampled")
    assert document["read"]["bytes"] <= document["read"]["of"]


ZOO = Path(__file__).parents[1] / "zoo"


@pytest.mark.parametrize("stored", ["safetensors", "gguf", "onnx", "npz"])
def test_inspections_of_every_format_keep_to_the_schema(tmp_path: Path, stored: str) -> None:
    ones = np.ones((2, 3), dtype=np.float32)
    path = ZOO / "a"
    if stored == "gguf":
        path = convert(path, tmp_path / "copy.gguf")
    if stored == "onnx":
        path = tmp_path / "copy.onnx"
        path.write_bytes(encode_onnx({"a.weight": ones}))
    if stored == "npz":
        path = tmp_path / "copy.npz"
        np.savez(path, w=ones)
    with open_checkpoint(path) as checkpoint:
        document = inspect(checkpoint).to_json()
    assert document["format"] == stored
    assert _complaints("inspection-1.json", document) == []
    expected = {"safetensors": "tokenizer.json", "gguf": "512 tokens (gpt2), in the weight file"}
    assert document["tokenizer"] == expected.get(stored)
