"""Every tensor name that llama.cpp gives has one role or one stated reason, in every architecture of the gguf package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, MODEL_TENSOR, MODEL_TENSORS, TENSOR_NAMES
from tests.checkpoint.gguf_writer import encode_gguf, plain

from homolog.checkpoint.open import open_checkpoint
from homolog.roles.architecture import load_architectures
from homolog.roles.inspect import Inspection, inspect
from homolog.roles.rules import Architecture

FAMILIES = {family.id: family for family in load_architectures() if family.id.startswith("gguf")}
BY_PREFERENCE = sorted(FAMILIES.values(), key=lambda family: -family.preference)
BY_ARCHITECTURE = {name: family for family in BY_PREFERENCE for name in family.model_types}
TWO_LAYOUTS = {"falcon"}
"""Architectures whose models are laid out in one of two ways, told by their tensors."""
WITHOUT_ROLES = {
    "t5": "an encoder beside a decoder",
    "t5encoder": "an encoder with names of its own",
    "clip": "a reader of pictures",
    "wavtokenizer-dec": "a decoder of sound",
    "mamba": "a state-space model",
    "mamba2": "a state-space model",
    "rwkv6": "a recurrent model",
    "rwkv7": "a recurrent model",
    "rwkv6qwen2": "a recurrent model",
    "arwkv7": "a recurrent model",
    "modern-bert": "norms only before some blocks",
    "plm": "latent attention beside an FFN without a gate",
    "neo-bert": "RMS norms, gate and up in one tensor",
}
"""Architectures whose layers no family describes: their checkpoints are unknown, with a reason."""
WIDTH, HEADS, FFN, EXPERTS, LAYERS = 8, 2, 12, 4, 2


def spellings(tensor: MODEL_TENSOR) -> tuple[str, ...]:
    stem = TENSOR_NAMES[tensor].format(bid=1, xid=0)
    return f"{stem}.weight", f"{stem}.bias", stem


def says(family: Architecture, name: str) -> list[int]:
    """The rules of a family that know a name of layer 1; -1 stands for names to ignore."""
    found = [n for n, rule in enumerate(family.rules) if name in {spelling.fill(1, 0) for spelling in rule.names}]
    for ignore in family.ignores:
        if name in {spelling.fill(1, 0) for spelling in ignore.names} or name.startswith(ignore.below or ("\0",)):
            found.append(-1)
    return found


def test_every_architecture_has_a_family_or_a_reason_for_none() -> None:
    names = {MODEL_ARCH_NAMES[architecture] for architecture in MODEL_TENSORS}
    assert not BY_ARCHITECTURE.keys() & WITHOUT_ROLES.keys()
    assert names <= BY_ARCHITECTURE.keys() | WITHOUT_ROLES.keys()
    assert BY_ARCHITECTURE.keys() | WITHOUT_ROLES.keys() <= names
    twice = Counter(name for family in FAMILIES.values() for name in family.model_types)
    assert {name for name, times in twice.items() if times > 1} == TWO_LAYOUTS


@pytest.mark.parametrize("architecture", MODEL_TENSORS, ids=lambda architecture: MODEL_ARCH_NAMES[architecture])
def test_every_name_has_one_role_or_one_reason(architecture: MODEL_ARCH) -> None:
    family = BY_ARCHITECTURE.get(MODEL_ARCH_NAMES[architecture])
    for tensor in MODEL_TENSORS[architecture] if family else ():
        assert family is not None
        known = [says(family, name) for name in spellings(tensor)]
        assert any(known), f"{family.id} does not know {spellings(tensor)[0]}"
        assert all(len(set(one)) <= 1 for one in known), f"{family.id} knows {spellings(tensor)[0]} twice"


def shape(tensor: MODEL_TENSOR, family: Architecture) -> tuple[int, ...]:
    """The shape that the family's rule asks for, in small numbers."""
    name = spellings(tensor)[0]
    (number,) = set(says(family, name))
    sizes = {"residual": WIDTH, "ffn": FFN, "query": WIDTH, "kv": WIDTH // 2, "head": HEADS, "head_dim": WIDTH // HEADS}
    sizes |= {"vocab": 30, "expert": EXPERTS, "stacked": EXPERTS, "segment": 2, "position": 9, "other": 1}
    sizes |= {"q_latent": 6, "kv_latent": 5}
    rule = family.rules[number]
    parts = {part.space for part in rule.parts}
    fused = {"key": WIDTH + WIDTH} if "key" in parts else {}
    axes = [axis if axis is None else axis.value for axis in rule.axes]
    inner = [
        sizes[axis] if axis else fused.get("key") or sum(sizes.get(part.space or "", 3) for part in rule.parts)
        for axis in axes
    ]
    return (*(sizes[axis] for axis in rule.leading), *inner)


def tiny(architecture: MODEL_ARCH, folder: Path) -> Inspection:
    """A small file of an architecture: the tensors that its family has roles for, in two layers."""
    name = MODEL_ARCH_NAMES[architecture]
    family = BY_ARCHITECTURE[name]
    has = set(MODEL_TENSORS[architecture])
    left: set[MODEL_TENSOR] = set()
    if {MODEL_TENSOR.ATTN_Q, MODEL_TENSOR.ATTN_K} <= has:
        left.add(MODEL_TENSOR.ATTN_QKV)
    if MODEL_TENSOR.FFN_GATE_EXP in has:
        left |= {MODEL_TENSOR.FFN_GATE_UP_EXP, MODEL_TENSOR.FFN_GATE, MODEL_TENSOR.FFN_UP, MODEL_TENSOR.FFN_DOWN}
    if MODEL_TENSOR.ATTN_KV_A_MQA in has:
        left |= {
            MODEL_TENSOR.ATTN_Q,
            MODEL_TENSOR.ATTN_K,
            MODEL_TENSOR.ATTN_V,
            MODEL_TENSOR.ATTN_K_B,
            MODEL_TENSOR.ATTN_V_B,
        }
    tensors = []
    rng = np.random.default_rng(0)
    for tensor in has - left:
        full = spellings(tensor)[0]
        if max(says(family, full), default=-1) < 0:
            continue
        dims = shape(tensor, family)
        for layer in range(LAYERS) if "{bid}" in TENSOR_NAMES[tensor] else (1,):
            numbers = rng.standard_normal(dims).astype(np.float32)
            tensors.append(plain(TENSOR_NAMES[tensor].format(bid=layer) + ".weight", numbers))
    metadata = {"general.architecture": name, f"{name}.attention.head_count": HEADS}
    path = folder / "m.gguf"
    path.write_bytes(encode_gguf(metadata, list({tensor.name: tensor for tensor in tensors}.values())))
    with open_checkpoint(path) as checkpoint:
        return inspect(checkpoint)


@pytest.mark.parametrize(
    "architecture",
    [architecture for architecture in MODEL_TENSORS if MODEL_ARCH_NAMES[architecture] in BY_ARCHITECTURE],
    ids=lambda architecture: MODEL_ARCH_NAMES[architecture],
)
def test_a_tiny_file_of_every_architecture_resolves(architecture: MODEL_ARCH, tmp_path: Path) -> None:
    found = tiny(architecture, tmp_path)
    assert found.anatomy.reason is None
    assert found.architecture == BY_ARCHITECTURE[MODEL_ARCH_NAMES[architecture]].id
    assert found.anatomy.dims.layers == LAYERS
    covered = {view.tensor for view in found.anatomy.views.values()} | found.anatomy.unused.keys()
    assert len(covered) == found.tensors


@pytest.mark.parametrize("name", ["mamba", "rwkv7", "t5"])
def test_other_architectures_are_unknown_with_a_reason(name: str, tmp_path: Path) -> None:
    architecture = next(key for key, value in MODEL_ARCH_NAMES.items() if value == name)
    tensors = [
        plain(TENSOR_NAMES[tensor].format(bid=layer) + ".weight", np.ones((4, 4), dtype=np.float32))
        for tensor in MODEL_TENSORS[architecture]
        for layer in (range(2) if "{bid}" in TENSOR_NAMES[tensor] else (0,))
    ]
    path = tmp_path / "m.gguf"
    path.write_bytes(encode_gguf({"general.architecture": name}, tensors))
    with open_checkpoint(path) as checkpoint:
        found = inspect(checkpoint)
    assert found.architecture == "unknown"
    assert found.anatomy.reason
