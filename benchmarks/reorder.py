"""Any resolved checkpoint with its units, heads and residual channels in another order, by what its axes count."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.open import open_checkpoint
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy, Role, Space, View

Orders = dict[Space, npt.NDArray[np.intp]]

_SIDE_FILES = ("config.json", "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")


def reorder(source: Path, folder: Path, seed: int) -> Path:
    """A copy that computes the same, as float32 safetensors under the old names; ``source`` is a folder or a file."""
    rng = np.random.default_rng(seed)
    with open_checkpoint(source) as checkpoint:
        anatomy = resolve(checkpoint)
        tensors = {name: checkpoint.read_rows(name).reshape(i.shape).copy() for name, i in checkpoint.tensors.items()}
        home = checkpoint.folder
    stream = {Space.RESIDUAL: rng.permutation(anatomy.dims.width)}
    inside: dict[tuple[int, int, bool], Orders] = {}
    done: set[tuple[str, int]] = set()
    for role, view in anatomy.views.items():
        if (view.tensor, view.start) in done:
            continue
        done.add((view.tensor, view.start))
        place = (role.layer, role.expert, role.shared)
        if place not in inside:
            inside[place] = draw_orders(anatomy, role, rng)
        put(tensors, view, stream | inside[place])
    return write_copy(tensors, home, folder)


def write_copy(tensors: Mapping[str, npt.NDArray[np.float32]], home: Path | None, folder: Path) -> Path:
    """The tensors as float32 safetensors, with the config and the tokenizer of the folder ``home``."""
    folder.mkdir(parents=True)
    for name in _SIDE_FILES:
        if home is not None and (home / name).is_file():
            shutil.copy(home / name, folder / name)
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * tensor.size
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, dtype="<f4").tobytes())
    return folder


def draw_orders(anatomy: Anatomy, role: Role, rng: np.random.Generator) -> Orders:
    """Orders of the axes inside one layer: units of its FFN, and its heads, each with its dimensions."""
    units = next((v.shape[v.axes.index(Space.FFN)] for r, v in anatomy.views.items() if same_ffn(r, role, v)), 0)
    dims = anatomy.dims
    found: Orders = {Space.FFN: rng.permutation(units)}
    if dims.heads and dims.kv_heads and dims.head_dim:
        groups = rng.permutation(dims.kv_heads)
        for space, heads in ((Space.QUERY, dims.heads), (Space.KV, dims.kv_heads)):
            found[space] = np.arange(heads * dims.head_dim).reshape(dims.kv_heads, -1)[groups].ravel()
    return found


def same_ffn(role: Role, other: Role, view: View) -> bool:
    """Whether a view of ``role`` counts the units of the FFN that ``other`` belongs to."""
    return (role.layer, role.expert, role.shared) == (
        other.layer,
        other.expert,
        other.shared,
    ) and Space.FFN in view.axes


def put(tensors: dict[str, npt.NDArray[np.float32]], view: View, orders: Orders) -> None:
    """Reorder the part of a tensor that the view shows."""
    assert not view.index
    assert not view.run
    tensor = tensors[view.tensor]
    here = [slice(None)] * tensor.ndim
    here[view.axis] = slice(view.start, view.start + view.shape[view.axis])
    part = tensor[tuple(here)]
    for axis, space in enumerate(view.axes):
        if space in orders and part.shape[axis] == len(orders[space]):
            part = np.take(part, orders[space], axis=axis)
    tensor[tuple(here)] = part
