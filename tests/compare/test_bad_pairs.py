"""What cannot be compared is absent with its reason: never a crash, never a silent fallback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.compare.disguise import Tensors, load, on_layers, permute_units, pick_layers, rotation, save, turn_residual

from homolog.bank.storage import load_bank
from homolog.comparison import Comparison
from homolog.errors import UsageError
from homolog.pipeline import compare

ZOO = Path(__file__).parents[1] / "zoo"


def finding(comparison: Comparison, probe: str) -> str | None:
    return next(f for f in comparison.findings if f.probe == probe).absent


def hidden(tensors: Tensors) -> Tensors:
    rng = np.random.default_rng(1)
    return turn_residual(permute_units(tensors, rng), rotation(64, rng))


@pytest.mark.parametrize(("source", "verdict"), [("a-same-1x", "related"), ("b", "independent")])
def test_a_vocabulary_without_bytes_leaves_the_bodies(source: str, verdict: str, tmp_path: Path) -> None:
    """Words alone: nothing says what a token stands for in bytes, and no token of the other vocabulary is among them."""
    folder = save(hidden(load(ZOO / source)), ZOO / source, tmp_path / "made")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(f"wort{i}" for i in range(512)), encoding="utf-8")
    found = compare(ZOO / "a", folder)
    assert finding(found, "tokens.untrained")
    assert found.verdict.verdict == verdict
    assert found.verdict.tier == (2 if verdict == "related" else 1)


@pytest.mark.parametrize(("source", "verdict"), [("a-same-1x", "related"), ("b", "independent")])
def test_no_shared_token_leaves_the_bodies(source: str, verdict: str, tmp_path: Path) -> None:
    folder = save(hidden(load(ZOO / source)), ZOO / source, tmp_path / "made")
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"]["vocab"] = {f"{token}qqqq": index for token, index in document["model"]["vocab"].items()}
    document["model"]["merges"], document["added_tokens"] = [], []
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    found = compare(ZOO / "a", folder)
    assert finding(found, "tokens.untrained")
    assert finding(found, "channels.columns")
    assert found.verdict.verdict == verdict


def test_units_that_are_all_alike_show_nothing(tmp_path: Path) -> None:
    def tie(name: str, tensor: np.ndarray) -> np.ndarray:
        if not name.endswith(("gate_proj.weight", "up_proj.weight")):
            return tensor
        return np.broadcast_to(tensor[:1], tensor.shape).copy()

    folders = [save(on_layers(load(ZOO / name), tie), ZOO / name, tmp_path / name) for name in ("a", "a-same-1x", "b")]
    for other in folders[1:]:
        found = compare(folders[0], other)
        rows = next(f for f in found.findings if f.probe == "ffn.rows")
        assert rows.log10_p in (None, 0.0)
        assert found.agreement.value is None
        assert found.agreement.absent
    assert compare(folders[0], folders[2]).verdict.verdict in ("independent", "inconclusive")


@pytest.mark.parametrize(("source", "verdict"), [("a-same-1x", "related"), ("b", "independent")])
@pytest.mark.parametrize("disguise", [lambda t: t, hidden], ids=["plain", "hidden"])
def test_models_of_one_layer(source: str, verdict: str, disguise: Callable[[Tensors], Tensors], tmp_path: Path) -> None:
    one = [
        save(change(pick_layers(load(ZOO / name), [2])), ZOO / name, tmp_path / name, num_hidden_layers=1)
        for name, change in (("a", lambda t: t), (source, disguise))
    ]
    found = compare(*one)
    assert found.verdict.verdict == verdict


def test_an_expert_count_that_differs_by_layer_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    tensors = load(ZOO / "q-upcycled")
    kept = {name: t for name, t in tensors.items() if not name.startswith("model.layers.1.mlp.experts.3.")}
    kept["model.layers.1.mlp.gate.weight"] = kept["model.layers.1.mlp.gate.weight"][:3]
    save(kept, ZOO / "q-upcycled", folder)
    shutil.copy(ZOO / "q-upcycled" / "tokenizer.json", folder)
    found = compare(ZOO / "q", folder)
    assert found.verdict.verdict in ("related", "inconclusive")
    assert found.verdict.verdict == "related" or "expert" in (found.verdict.reason or "")


def test_a_bank_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "bank.json"
    path.write_text(json.dumps({"schema": "homolog.bank/2", "models": []}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"homolog\.bank/2.*homolog\.bank/1"):
        load_bank(path)
