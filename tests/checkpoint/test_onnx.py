"""ONNX models: every way to store a tensor, integers with scales, names that the graph gives back, and files beside the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.onnx_writers import KINDS, attribute, encode_onnx, model, node, run, tensor
from tests.checkpoint.writers import NUMPY_KINDS, AnyArray, encode_safetensors

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.pipeline import compare
from homolog.roles.resolve import resolve

RNG = np.random.default_rng(5)
PATH = "/encoder/layer.0/attention/self/query"
BIAS = "encoder.layer.0.attention.self.query.bias"
QUERY = "encoder.layer.0.attention.self.query.weight"


def write(tmp_path: Path, data: bytes, name: str = "model.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def numbers(shape: tuple[int, ...]) -> AnyArray:
    return RNG.standard_normal(shape).astype(np.float32)


def integers(shape: tuple[int, ...], kind: type = np.int8) -> AnyArray:
    low = 0 if kind is np.uint8 else -128
    return RNG.integers(low, low + 256, shape).astype(kind)


def check_reads(checkpoint: Checkpoint, name: str, expected: AnyArray) -> None:
    """Whole, in parts, and picked rows."""
    assert np.allclose(checkpoint.read_rows(name), expected, rtol=1e-6)
    assert np.allclose(checkpoint.read_rows(name, 1, 3), expected[1:3], rtol=1e-6)
    assert np.allclose(checkpoint.read_rows_at(name, [2, 0, 2]), expected[[2, 0, 2]], rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("F8")])
@pytest.mark.parametrize("typed", [False, True])
def test_every_kind_is_read_from_raw_bytes_and_from_its_typed_field(tmp_path: Path, kind: str, typed: bool) -> None:
    array = np.arange(12).reshape(4, 3).astype(NUMPY_KINDS[kind])
    with open_checkpoint(write(tmp_path, model([tensor("a.weight", array, typed=typed)]))) as checkpoint:
        assert checkpoint.format == "onnx"
        assert checkpoint.tensors["a.weight"].dtype == kind
        check_reads(checkpoint, "a.weight", array.astype(np.float32))


def test_large_tensors_are_read_by_range(tmp_path: Path) -> None:
    arrays = {f"layer.{i}.weight": numbers((512, 256)) for i in range(4)}
    with open_checkpoint(write(tmp_path, encode_onnx(arrays))) as checkpoint:
        assert checkpoint.meter.bytes < 100_000
        before = checkpoint.meter.bytes
        assert np.array_equal(checkpoint.read_rows("layer.2.weight", 7, 8), arrays["layer.2.weight"][7:8])
        assert checkpoint.meter.bytes - before == 1024


SCALE = np.float32(0.02)
ZERO = np.uint8(120)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_dequantised_weights_are_the_numbers_that_they_stand_for(tmp_path: Path, axis: int | None, kind: type) -> None:
    stored = integers((6, 4), kind)
    count = 1 if axis is None else stored.shape[axis]
    scale = RNG.uniform(0.01, 0.1, count).astype(np.float32)
    zero = integers((count,), kind)
    along = [-1 if place == axis else 1 for place in range(2)]
    expected = (stored.astype(np.float32) - zero.reshape(along)) * scale.reshape(along)
    if axis is None:
        scale, zero = scale.reshape(()), zero.reshape(())
    data = model(
        [tensor("a.weight_quantized", stored), tensor("a.weight_scale", scale), tensor("a.weight_zero_point", zero)],
        [
            node(
                "DequantizeLinear",
                ["a.weight_quantized", "a.weight_scale", "a.weight_zero_point"],
                ["a.weight_DequantizeLinear_Output"],
                attribute("axis", axis or 0),
            )
        ],
    )
    with open_checkpoint(write(tmp_path, data)) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight"]
        assert checkpoint.tensors["a.weight"].lattice.startswith("int8" if kind is np.int8 else "uint8")
        check_reads(checkpoint, "a.weight", expected)
        assert checkpoint.read_bytes("a.weight") == stored.tobytes()
        whole = b"".join(checkpoint.read_stored("a.weight", 8))
        assert whole == stored.tobytes() + scale.tobytes() + zero.astype(np.float32).tobytes()


def _dynamic(per_channel: bool) -> tuple[bytes, AnyArray]:
    """A linear layer as onnxruntime's dynamic quantisation writes it."""
    stored = integers((6, 4))
    scale = RNG.uniform(0.01, 0.1, 4 if per_channel else 1).astype(np.float32)
    zero = integers((4 if per_channel else 1,))
    expected = (stored.astype(np.float32) - zero) * scale
    weight = "onnx::MatMul_470_quantized"
    tensors = [
        tensor(weight, stored),
        tensor("onnx::MatMul_470_scale", scale),
        tensor("onnx::MatMul_470_zero_point", zero),
        tensor(BIAS, numbers((4,))),
    ]
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("MatMulInteger", ["xq", weight, "xz", "onnx::MatMul_470_zero_point"], ["p"], name=f"{PATH}/MatMul_quant"),
        node("Cast", ["p"], ["pf"], attribute("to", 1)),
        node("Mul", ["xs", "onnx::MatMul_470_scale"], ["s"]),
        node("Mul", ["pf", "s"], ["y"]),
        node("Add", [BIAS, "y"], ["z"], name=f"{PATH}/Add"),
    ]
    return model(tensors, nodes), expected


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamically_quantised_products_get_their_scales_and_names(tmp_path: Path, per_channel: bool) -> None:
    data, expected = _dynamic(per_channel)
    with open_checkpoint(write(tmp_path, data)) as checkpoint:
        assert set(checkpoint.tensors) == {QUERY, BIAS}
        assert checkpoint.tensors[QUERY].transposed
        check_reads(checkpoint, QUERY, expected)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("QLinearMatMul", ["x", "xs", "xz", "w", "s", "z", "ys", "yz"]),
        ("QGemm", ["x", "xs", "xz", "w", "s", "z", "b"]),
        ("DynamicQuantizeMatMul", ["x", "w", "s", "z", "b"]),
        ("MatMulIntegerToFloat", ["x", "w", "xs", "s", "xz", "z", "b"]),
    ],
)
def test_products_that_state_their_scales(tmp_path: Path, op: str, inputs: Sequence[str]) -> None:
    stored, scale, zero = integers((6, 4), np.uint8), np.full(4, SCALE), np.full(4, ZERO)
    tensors = [tensor("w", stored), tensor("s", scale), tensor("z", zero)]
    with open_checkpoint(
        write(tmp_path, model(tensors, [node(op, inputs, ["y"], name=f"{PATH}/MatMul")]))
    ) as checkpoint:
        assert list(checkpoint.tensors) == [QUERY]
        check_reads(checkpoint, QUERY, (stored.astype(np.float32) - ZERO) * SCALE)


def test_integers_of_a_convolution_and_of_gathered_rows(tmp_path: Path) -> None:
    kernel, scales = integers((4, 3, 2)), RNG.uniform(0.01, 0.1, 4).astype(np.float32)
    table = integers((5, 3), np.uint8)
    tensors = [
        tensor("conv.weight_quantized", kernel),
        tensor("conv.weight_scale", scales),
        tensor("table.weight_quantized", table),
        tensor("table_scale", np.array(SCALE)),
        tensor("table_zero", np.array(ZERO)),
    ]
    nodes = [
        node("ConvInteger", ["xq", "conv.weight_quantized", "xz"], ["c"]),
        node("Cast", ["c"], ["cf"]),
        node("Mul", ["cf", "m"], ["cs"]),
        node("Gather", ["table.weight_quantized", "ids"], ["rows"]),
        node("DequantizeLinear", ["rows", "table_scale", "table_zero"], ["rows_f"]),
    ]
    nodes.insert(2, node("Mul", ["xs", "conv.weight_scale"], ["m"]))
    with open_checkpoint(write(tmp_path, model(tensors, nodes))) as checkpoint:
        check_reads(checkpoint, "conv.weight", kernel.astype(np.float32) * scales[:, None, None])
        assert np.allclose(checkpoint.read_block("conv.weight", [2], 1, 3), kernel[2, 1:3] * scales[2], rtol=1e-6)
        check_reads(checkpoint, "table.weight", (table.astype(np.float32) - ZERO) * SCALE)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_cast_and_a_scale_that_broadcasts(tmp_path: Path, axis: int) -> None:
    stored = integers((6, 4))
    scale = RNG.uniform(0.01, 0.1, (6, 1) if axis == 0 else (1, 4)).astype(np.float32)
    tensors = [tensor("val_49_q", stored), tensor("val_49_scale", scale), tensor(BIAS, numbers((4,)))]
    nodes = [
        node("Cast", ["val_49_q"], ["val_49_f"]),
        node("Mul", ["val_49_f", "val_49_scale"], ["val_49"]),
        node("MatMul", ["x", "val_49"], ["y"], name="node_MatMul_48"),
        node("Add", ["y", BIAS], ["z"]),
    ]
    with open_checkpoint(write(tmp_path, model(tensors, nodes))) as checkpoint:
        assert checkpoint.tensors[QUERY].transposed
        check_reads(checkpoint, QUERY, stored * scale)


def test_integers_without_a_scale_are_not_taken_for_weights(tmp_path: Path) -> None:
    tensors = [
        tensor("onnx::MatMul_7", integers((6, 4))),
        tensor("a.weight", numbers((2, 2))),
        tensor("one", numbers((1,))),
    ]
    nodes = [node("MatMulInteger", ["xq", "onnx::MatMul_7", "xz"], ["y"])]
    with open_checkpoint(write(tmp_path, model(tensors, nodes))) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight"]
        assert "2 constants of the computation were left out" in checkpoint.notes


def test_names_are_read_off_paths_led_back_to_the_known_modules(tmp_path: Path) -> None:
    tensors = [
        tensor("model.layers.0.norm.weight", numbers((4,))),
        tensor("onnx::MatMul_9", numbers((4, 6))),
        tensor("onnx::Gather_3", numbers((8, 4))),
    ]
    nodes = [
        node("Gather", ["onnx::Gather_3", "ids"], ["e"], name="/wrapper/model/embed/Gather"),
        node("MatMul", ["x", "onnx::MatMul_9"], ["y"], name="/wrapper/model/layers.0/mlp/up/MatMul"),
    ]
    with open_checkpoint(write(tmp_path, model(tensors, nodes))) as checkpoint:
        assert set(checkpoint.tensors) == {
            "model.embed.weight",
            "model.layers.0.mlp.up.weight",
            "model.layers.0.norm.weight",
        }
        assert checkpoint.tensors["model.layers.0.mlp.up.weight"].transposed
        assert not checkpoint.tensors["model.embed.weight"].transposed


def test_two_tensors_that_claim_one_name_keep_their_own(tmp_path: Path) -> None:
    tensors = [tensor("onnx::MatMul_1", numbers((4, 6))), tensor("onnx::MatMul_2", numbers((4, 6)))]
    nodes = [
        node("MatMul", ["x", "onnx::MatMul_1"], ["y"], name="/a/MatMul"),
        node("MatMul", ["x", "onnx::MatMul_2"], ["z"], name="/a/MatMul_1"),
    ]
    with open_checkpoint(write(tmp_path, model(tensors, nodes))) as checkpoint:
        assert set(checkpoint.tensors) == {"onnx::MatMul_1", "onnx::MatMul_2"}


def test_a_gemm_that_turns_its_matrix_itself_leaves_it_as_it_was(tmp_path: Path) -> None:
    tensors = [tensor("w", numbers((6, 4))), tensor(BIAS, numbers((6,)))]
    data = model(tensors, [node("Gemm", ["x", "w", BIAS], ["y"], attribute("transB", 1))])
    with open_checkpoint(write(tmp_path, data)) as checkpoint:
        assert not checkpoint.tensors[QUERY].transposed


def test_constants_that_are_weights_and_parameters_stored_once(tmp_path: Path) -> None:
    table = numbers((5, 3))
    nodes = [
        node("Constant", [], ["tok.weight"], attribute("value", tensor("", table))),
        node("Identity", ["tok.weight"], ["head.weight"]),
    ]
    with open_checkpoint(write(tmp_path, model([], nodes))) as checkpoint:
        check_reads(checkpoint, "tok.weight", table)
        check_reads(checkpoint, "head.weight", table)


def test_numbers_in_a_file_beside_the_model(tmp_path: Path) -> None:
    first, second = numbers((3, 4)), integers((6,))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model.bin").write_bytes(b"head" + first.tobytes() + second.tobytes())
    place = {"location": "data/model.bin"}
    data = model(
        [
            tensor("a.weight", first, external={**place, "offset": "4", "length": "48"}),
            tensor("b.weight", second, external={**place, "offset": "52"}),
        ]
    )
    with open_checkpoint(write(tmp_path, data)) as checkpoint:
        check_reads(checkpoint, "a.weight", first)
        check_reads(checkpoint, "b.weight", second.astype(np.float32))
        assert [path.name for path in checkpoint.files] == ["model.onnx", "model.bin"]


def _bert(turned: bool) -> dict[str, AnyArray]:
    """A small BERT in numpy; the matrices of its layers turned or not."""
    rng = np.random.default_rng(3)

    def draw(*shape: int) -> AnyArray:
        return rng.standard_normal(shape).astype(np.float32)

    arrays = {"embeddings.word_embeddings.weight": draw(60, 16), "embeddings.position_embeddings.weight": draw(12, 16)}
    arrays["embeddings.token_type_embeddings.weight"] = draw(2, 16)
    arrays |= {f"embeddings.LayerNorm.{part}": draw(16) for part in ("weight", "bias")}
    shapes = {"attention.self.query": (16, 16), "attention.self.key": (16, 16), "attention.self.value": (16, 16)}
    shapes |= {"attention.output.dense": (16, 16), "intermediate.dense": (40, 16), "output.dense": (16, 40)}
    for layer in range(2):
        for module, shape in shapes.items():
            matrix = draw(*shape)
            arrays[f"encoder.layer.{layer}.{module}.weight"] = np.ascontiguousarray(matrix.T) if turned else matrix
            arrays[f"encoder.layer.{layer}.{module}.bias"] = draw(shape[0])
        for module in ("attention.output.LayerNorm", "output.LayerNorm"):
            arrays |= {f"encoder.layer.{layer}.{module}.{part}": draw(16) for part in ("weight", "bias")}
    return arrays


def export(arrays: dict[str, AnyArray]) -> bytes:
    """As torch's exporter writes it: matrices of products turned and under names of its own."""
    tensors: list[bytes] = []
    nodes: list[bytes] = []
    for name, array in arrays.items():
        module = name.removesuffix(".weight")
        if f"{module}.bias" in arrays and array.ndim == 2:
            made_up = f"onnx::MatMul_{len(tensors)}"
            tensors.append(tensor(made_up, array))
            nodes.append(node("MatMul", ["x", made_up], [f"y{len(tensors)}"]))
            nodes.append(node("Add", [f"{module}.bias", f"y{len(tensors)}"], [f"z{len(tensors)}"]))
        else:
            tensors.append(tensor(name, array))
    return model(tensors, nodes)


def test_a_model_and_its_export_are_identical(tmp_path: Path) -> None:
    (tmp_path / "plain.safetensors").write_bytes(encode_safetensors(_bert(turned=False)))
    path = write(tmp_path, export(_bert(turned=True)))
    with open_checkpoint(path) as checkpoint:
        anatomy = resolve(checkpoint)
        assert anatomy.architecture == "bert"
        assert not anatomy.missing
    assert compare(tmp_path / "plain.safetensors", path).verdict.verdict == "identical"


def test_a_folder_with_nothing_but_an_onnx_model(tmp_path: Path) -> None:
    write(tmp_path, encode_onnx({"a.weight": numbers((2, 2))}))
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "onnx"


def test_other_formats_beside_an_onnx_model_are_chosen_and_said(tmp_path: Path) -> None:
    write(tmp_path, encode_onnx({"a.weight": numbers((2, 2))}))
    (tmp_path / "weights.safetensors").write_bytes(encode_safetensors({"a.weight": numbers((2, 2))}))
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert any("model.onnx" in note for note in checkpoint.notes)


def test_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    data = encode_onnx({"a.weight": numbers((2, 2))}) + run(900, b"anything") + b"\x5d\0\0\0\0\x59\0\0\0\0\0\0\0\0"
    with open_checkpoint(write(tmp_path, data)) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight"]
