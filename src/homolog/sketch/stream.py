"""Reading a sketch: block by block, through the roles of the tensors, with norm gains folded in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint, TensorInfo
from homolog.roles.read import count_units, read_units, read_units_at, read_vector
from homolog.roles.role import Anatomy, Role, Space, View
from homolog.sketch.held import HeldCheckpoint
from homolog.sketch.lattice import find_lattice
from homolog.sketch.plan import ReadingPlan
from homolog.sketch.position_table import POSITION, position_view
from homolog.sketch.sketch import Sketch, TokenRows, UnitBlock, ValueBlock

__all__ = [
    "SEEN",
    "Progress",
    "lattice_precision",
    "read_blocks",
    "read_channels",
    "read_sketch",
    "read_token_rows",
]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the steps done and the steps in all."""

_PRECISION = {
    "F64": 2.0**-53,
    "F32": 2.0**-24,
    "F16": 2.0**-11,
    "BF16": 2.0**-8,
    "F8_E4M3": 2.0**-4,
    "F8_E5M2": 2.0**-3,
}
_EXHIBIT_ROWS = 16
_VALUE_DIMENSIONS = 32
_EXHIBITS = {"attn.q": Space.QUERY, "attn.k": Space.KV, "attn.v": Space.KV, "attn.o": Space.RESIDUAL}


def read_sketch(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: ReadingPlan,
    ordinary: Sequence[int],
    untrained: Sequence[int],
    progress: Progress,
) -> Sketch:
    """Read everything that the first stage of a comparison needs of one model.

    ``ordinary`` and ``untrained`` are the rows of the embedding to read (see `choose_anchors`). Raises CheckpointError where the file
    cannot be read.
    """
    if plan.hold:
        checkpoint = HeldCheckpoint(checkpoint)
    channels = read_channels(checkpoint, anatomy, plan)
    units: list[UnitBlock] = []
    values: list[ValueBlock] = []
    routers: dict[int, Array] = {}
    spreads: dict[str, list[float]] = {kind: [] for kind in _EXHIBITS}
    column_norms: dict[Role, Array] = {}
    layers = anatomy.dims.layers
    by_layer = _views_by_layer(anatomy)
    for layer in filter(plan.reads, range(-1, layers)):
        progress("reading layers", layer + 1, layers + 1)
        for role, view in by_layer.get(layer, ()):
            if role.kind == "ffn.up" and role.part == "weight" and role.expert < plan.experts:
                units.append(_read_units(checkpoint, anatomy, plan, channels, role))
            elif role.kind == "attn.v" and role.part == "weight":
                values.extend(_read_values(checkpoint, anatomy, plan, channels, role))
            elif role.kind == "ffn.router" and role.part == "weight":
                count = count_units(view, Space.EXPERT)
                routers[layer] = read_units(checkpoint, view, Space.EXPERT, 0, min(plan.routed or count, count))
            if _EXHIBITS.get(role.kind) in view.axes and role.part == "weight":
                count = min(_EXHIBIT_ROWS, count_units(view, _EXHIBITS[role.kind]))
                spreads[role.kind].append(float(read_units(checkpoint, view, _EXHIBITS[role.kind], 0, count).std()))
            if plan.whole and _has_columns(role, view):
                column_norms[role] = _column_norms(checkpoint, view)
        if isinstance(checkpoint, HeldCheckpoint):
            checkpoint.forget()
    return Sketch(
        anatomy=anatomy,
        units=tuple(units),
        values=tuple(values),
        routers=routers,
        channels=channels,
        column_norms=column_norms,
        tokens=read_token_rows(checkpoint, anatomy, ordinary, untrained, plan.positions),
        spreads={kind[-1]: tuple(curve) for kind, curve in spreads.items() if len(curve) == layers},
        warnings=tuple(_warnings(units, values)),
        layers_read=plan.layers,
        lattice=_lattice(checkpoint, anatomy) or _seen_lattice(units, layers),
    )


def read_channels(checkpoint: Checkpoint, anatomy: Anatomy, plan: ReadingPlan) -> dict[Role, Array]:
    """Norm gains and biases over the residual stream, whole; a norm as what it multiplies by."""
    return {
        role: _read_channels(checkpoint, anatomy, role, view)
        for role, view in sorted(anatomy.views.items())
        if view.axes == (Space.RESIDUAL,)
        and (role.layer >= 0 or role.kind.startswith("norm"))
        and plan.reads(role.layer)
    }


def read_blocks(
    checkpoint: Checkpoint, anatomy: Anatomy, plan: ReadingPlan, channels: dict[Role, Array]
) -> Iterator[UnitBlock]:
    """The FFN blocks of a plan one by one, in the order of a sketch, and nothing else of the model."""
    for role in sorted(anatomy.views):
        if role.kind == "ffn.up" and role.part == "weight" and role.expert < plan.experts and plan.reads(role.layer):
            yield _read_units(checkpoint, anatomy, plan, channels, role)


def _views_by_layer(anatomy: Anatomy) -> dict[int, list[tuple[Role, View]]]:
    views: dict[int, list[tuple[Role, View]]] = {}
    for role, view in sorted(anatomy.views.items()):
        views.setdefault(role.layer, []).append((role, view))
    return views


def read_token_rows(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    ordinary: Sequence[int],
    untrained: Sequence[int],
    positions: Sequence[int] = (),
) -> dict[str, TokenRows]:
    """Rows of the embedding and of an untied unembedding; a table that is not vocabulary × residual is left out.

    Where fixed features are projected into the residual stream, ``project`` holds a row for each feature: what it writes.
    ``position`` holds rows of the table of learned positions.
    """
    tables = {}
    for key, role in (("embed", Role("embed.token")), ("unembed", Role("unembed"))):
        view = anatomy.views.get(role)
        if view is None or Space.RESIDUAL not in view.axes or Space.VOCAB not in view.axes:
            continue
        first = read_units_at(checkpoint, view, Space.VOCAB, ordinary)
        second = read_units_at(checkpoint, view, Space.VOCAB, untrained)
        tables[key] = TokenRows(first, second, _precision(checkpoint.tensors[view.tensor]), _flaw(first))
    view = anatomy.views.get(Role("embed.project"))
    if view is not None and set(view.axes) == {Space.RESIDUAL, Space.INPUT}:
        inputs = read_units(checkpoint, view, Space.INPUT, 0, view.shape[view.axes.index(Space.INPUT)])
        tables["project"] = TokenRows(inputs, inputs[:0], 2.0**-24, _flaw(inputs))
    view = position_view(anatomy)
    if view is not None and positions:
        rows = read_units_at(checkpoint, view, Space.POSITION, positions)
        tables[POSITION] = TokenRows(rows[:0], rows, _precision(checkpoint.tensors[view.tensor]), _flaw(rows))
    return tables


SEEN = ", seen in the numbers"
"""Ends the words for a lattice that is not how the file keeps its numbers, but how they were rounded before."""

_FLOATS = {"fp8 (E5M2": 2.0**-4, "fp8": 2.0**-5, "mxfp8": 2.0**-5, "mxfp4": 0.15}
"""Small floats are as coarse as their mantissa, not as their bits. Rounding moves the zoo's matrices by 0.027 in E4M3, by 0.12 in MXFP4."""


def _precision(info: TensorInfo) -> float:
    """Relative to a row: a number of b bits that shares its scale with others is off by some 2^-(b-1) of their usual size."""
    return lattice_precision(info.lattice) or _PRECISION.get(info.dtype, 2.0**-8)


def lattice_precision(lattice: str) -> float:
    """As `_precision`, of a kind of quantisation, the bits of which are the first digit of its name; 0 where there is none."""
    for kind, precision in _FLOATS.items():
        if lattice.startswith(kind):
            return precision
    bits = re.search(r"\d", lattice)
    return 2.0 ** (1 - int(bits[0])) if bits else 0.0


def _lattice(checkpoint: Checkpoint, anatomy: Anatomy) -> str:
    kinds = Counter(
        checkpoint.tensors[view.tensor].lattice
        for role, view in anatomy.views.items()
        if role.kind.startswith("ffn.") and len(view.shape) == 2
    )
    return max(sorted(kinds), key=kinds.__getitem__, default="")


def _seen_lattice(units: Sequence[UnitBlock], layers: int) -> str:
    """Of matrices in full precision, what most of those that were looked at show; the words say that it was seen, not stored."""
    looked = [block for block in units if block.expert <= 0 and not block.flaw and block.layer in _spread(layers)]
    kinds = Counter(block.lattice for block in looked)
    kind = max(sorted(kinds), key=kinds.__getitem__, default="")
    return f"{kind}{SEEN}" if kind else ""


def _spread(layers: int) -> set[int]:
    """Four layers from the first to the last."""
    return {round(part * (layers - 1) / 3) for part in range(4)}


def _has_columns(role: Role, view: View) -> bool:
    """Whether a matrix has one residual axis, so that its columns (or rows) belong to residual channels."""
    inside = role.layer >= 0 or role.kind in ("embed.position", "embed.project")
    return inside and len(view.axes) == 2 and view.axes.count(Space.RESIDUAL) == 1


def _column_norms(checkpoint: Checkpoint, view: View) -> Array:
    """Norm of each residual channel's column, streamed in slabs."""
    total = np.zeros(view.shape[view.axes.index(Space.RESIDUAL)], dtype=np.float64)
    for start, stop in _steps(view.shape[0], view.shape[1]):
        slab = read_units(checkpoint, view, view.axes[0], start, stop)
        if view.axes[0] == Space.RESIDUAL:
            total[start:stop] = np.einsum("ij,ij->i", slab, slab, dtype=np.float64)
        else:
            total += np.einsum("ij,ij->j", slab, slab, dtype=np.float64)
    return np.sqrt(total).astype(np.float32)


def _read_channels(checkpoint: Checkpoint, anatomy: Anatomy, role: Role, view: View) -> Array:
    """A vector over residual channels; a norm as what it multiplies by."""
    vector = read_vector(checkpoint, view)
    offset = anatomy.traits.norm_offset and role.kind.startswith("norm.") and role.part == "weight"
    return vector + np.float32(1) if offset else vector


def _gain(anatomy: Anatomy, channels: dict[Role, Array], kind: str, layer: int) -> Array | None:
    """What the norm before a block multiplies by; of blocks side by side, the one norm that both may have."""
    if not anatomy.traits.pre_norm:
        return None
    shared = "norm.attn" if anatomy.traits.parallel else kind
    own = channels.get(Role(kind, layer=layer))
    return own if own is not None else channels.get(Role(shared, layer=layer))


def _read_units(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: ReadingPlan,
    channels: dict[Role, Array],
    role: Role,
) -> UnitBlock:
    def view_of(kind: str, part: str = "weight") -> View | None:
        return anatomy.views.get(replace(role, kind=kind, part=part))

    up_view = anatomy.views[role]
    width = up_view.shape[up_view.axes.index(Space.FFN)]
    count = min(plan.units, width) if plan.units else width
    gain = _gain(anatomy, channels, "norm.ffn", role.layer)

    digest = blake2b(digest_size=16)
    seen: list[str] = []

    def rows(view: View | None, fold: Array | None) -> Array | None:
        if view is None:
            return None
        as_columns = view.axes[0] != Space.FFN
        block = _read_slabs(checkpoint, view, count, plan.slab if as_columns else None)
        digest.update(np.ascontiguousarray(block).data)
        if view is up_view and role.expert <= 0 and role.layer in _spread(anatomy.dims.layers):
            seen.append("" if checkpoint.tensors[view.tensor].lattice else find_lattice(block))
        return block * fold[: block.shape[1]] if fold is not None else block

    biases = [
        read_vector(checkpoint, view)[:count, None]
        for view in (view_of("ffn.gate", "bias"), view_of("ffn.up", "bias"))
        if view is not None
    ]
    up = rows(up_view, gain)
    assert up is not None
    gate = rows(view_of("ffn.gate"), gain)
    stored = digest.digest()
    down = rows(view_of("ffn.down"), None) if plan.whole else None
    bias = np.concatenate(biases, axis=1) if biases else None
    return UnitBlock(
        role.layer,
        role.expert,
        role.shared,
        width,
        up,
        gate,
        down,
        bias,
        stored,
        _flaw(up, gate, down, bias, zero_of=up),
        lattice=seen[0] if seen else "",
    )


def _read_slabs(checkpoint: Checkpoint, view: View, count: int, slab: int | None) -> Array:
    """The first ``count`` units; units stored as columns are read in slabs of channels, so that a matrix is never held whole."""
    if view.axes[0] == Space.FFN:
        return read_units(checkpoint, view, Space.FFN, 0, count)
    channels = view.shape[0] if slab is None else min(slab, view.shape[0])
    parts = [
        read_units(checkpoint, view, Space.FFN, 0, count, residual=slice(start, stop))
        for start, stop in _steps(channels, view.shape[1])
    ]
    return np.concatenate(parts, axis=1)


def _read_values(
    checkpoint: Checkpoint, anatomy: Anatomy, plan: ReadingPlan, channels: dict[Role, Array], role: Role
) -> Iterator[ValueBlock]:
    view = anatomy.views[role]
    heads, dim = anatomy.dims.kv_heads, anatomy.dims.head_dim
    if not heads or not dim or Space.KV not in view.axes:
        return
    stored_as_columns = view.axes[0] != Space.KV
    count = heads if plan.whole or stored_as_columns else 1
    kept = dim if plan.whole else min(dim, _VALUE_DIMENSIONS)
    slab = slice(0, plan.slab) if stored_as_columns and plan.slab else None
    rows = _read_heads(checkpoint, view, count, dim, kept, slab)
    gain = _gain(anatomy, channels, "norm.attn", role.layer)
    if Space.KV_LATENT in view.axes:  # values that read a latent, which has a norm of its own
        latent = Role("norm.kv_a", layer=role.layer)
        gain = read_vector(checkpoint, anatomy.views[latent]) if latent in anatomy.views else None
    if gain is not None:
        rows = rows * gain[: rows.shape[1]]
    yield ValueBlock(role.layer, heads, rows.reshape(count, kept, -1), _flaw(rows, zero_of=rows))


def _read_heads(checkpoint: Checkpoint, view: View, heads: int, dim: int, kept: int, slab: slice | None) -> Array:
    if kept == dim:
        return read_units(checkpoint, view, Space.KV, 0, heads * dim, residual=slab)
    wanted = [head * dim + i for head in range(heads) for i in range(kept)]
    return read_units_at(checkpoint, view, Space.KV, wanted, residual=slab)


def _steps(length: int, across: int) -> Iterator[tuple[int, int]]:
    """Slabs of about 16 MB of float32."""
    step = max(1, 4 * 2**20 // max(across, 1))
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _flaw(*arrays: Array | None, zero_of: Array | None = None) -> str | None:
    for array in arrays:
        if array is not None and array.size and not np.isfinite(array).all():
            return "contains NaN or Inf"
    if zero_of is not None and zero_of.size and not zero_of.any():
        return "all zero"
    return None


def _warnings(units: Sequence[UnitBlock], values: Sequence[ValueBlock]) -> Iterator[str]:
    for block in units:
        if block.flaw:
            yield f"FFN of {block.name}: {block.flaw}"
    for value in values:
        if value.flaw:
            yield f"value projection of layer {value.layer}: {value.flaw}"
