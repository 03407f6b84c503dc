"""Reading a sketch: block by block, through the roles of the tensors, with norm gains folded in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.read import read_units, read_units_at, read_vector
from homolog.roles.role import Anatomy, Role, Space, View
from homolog.sketch.plan import ReadingPlan
from homolog.sketch.sketch import Sketch, TokenRows, UnitBlock, ValueBlock

__all__ = ["Progress", "read_column_norms", "read_sketch", "read_token_rows"]

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
    channels = {
        role: read_vector(checkpoint, view)
        for role, view in sorted(anatomy.views.items())
        if view.axes == (Space.RESIDUAL,) and (role.layer >= 0 or role.kind.startswith("norm"))
    }
    blocks = sorted({(role.layer, role.expert, role.shared) for role in anatomy.views if role.kind == "ffn.up"})
    blocks = [block for block in blocks if block[1] < plan.experts]
    layers = anatomy.dims.layers
    units = []
    for done, block in enumerate(blocks):
        progress("reading FFN units", done, len(blocks))
        units.append(_read_units(checkpoint, anatomy, plan, channels, *block))
    values = []
    spreads: dict[str, list[float]] = {kind: [] for kind in _EXHIBITS}
    for layer in range(layers):
        progress("reading attention", layer, layers)
        if (value := _read_values(checkpoint, anatomy, plan, channels, layer)) is not None:
            values.append(value)
        for kind, space in _EXHIBITS.items():
            view = anatomy.views.get(Role(kind, layer=layer))
            if view is not None:
                rows = read_units(checkpoint, view, space, 0, min(_EXHIBIT_ROWS, view.shape[view.axes.index(space)]))
                spreads[kind].append(float(rows.std()))
    routers = {
        role.layer: read_units(checkpoint, view, Space.EXPERT, 0, view.shape[view.axes.index(Space.EXPERT)])
        for role, view in sorted(anatomy.views.items())
        if role.kind == "ffn.router" and role.part == "weight"
    }
    return Sketch(
        anatomy=anatomy,
        units=tuple(units),
        values=tuple(values),
        routers=routers,
        channels=channels,
        column_norms=read_column_norms(checkpoint, anatomy, progress) if plan.whole else {},
        tokens=read_token_rows(checkpoint, anatomy, ordinary, untrained),
        spreads={kind[-1]: tuple(curve) for kind, curve in spreads.items() if len(curve) == layers},
        warnings=tuple(_warnings(units, values)),
    )


def read_token_rows(
    checkpoint: Checkpoint, anatomy: Anatomy, ordinary: Sequence[int], untrained: Sequence[int]
) -> dict[str, TokenRows]:
    """Rows of the embedding and of an untied unembedding; a table that is not vocabulary × residual is left out.

    Where fixed features are projected into the residual stream, ``project`` holds a row for each feature: what it writes.
    """
    tables = {}
    for key, role in (("embed", Role("embed.token")), ("unembed", Role("unembed"))):
        view = anatomy.views.get(role)
        if view is None or Space.RESIDUAL not in view.axes or Space.VOCAB not in view.axes:
            continue
        first = read_units_at(checkpoint, view, Space.VOCAB, ordinary)
        second = read_units_at(checkpoint, view, Space.VOCAB, untrained)
        dtype = checkpoint.tensors[view.tensor].dtype
        tables[key] = TokenRows(first, second, _PRECISION.get(dtype, 2.0**-8), _flaw(first))
    view = anatomy.views.get(Role("embed.project"))
    if view is not None and set(view.axes) == {Space.RESIDUAL, Space.INPUT}:
        inputs = read_units(checkpoint, view, Space.INPUT, 0, view.shape[view.axes.index(Space.INPUT)])
        tables["project"] = TokenRows(inputs, inputs[:0], 2.0**-24, _flaw(inputs))
    return tables


def read_column_norms(checkpoint: Checkpoint, anatomy: Anatomy, progress: Progress) -> dict[Role, Array]:
    """For every matrix with one residual axis, the norm of each residual channel's column, streamed in slabs of channels."""
    matrices = [
        (role, view)
        for role, view in sorted(anatomy.views.items())
        if len(view.axes) == 2
        and view.axes.count(Space.RESIDUAL) == 1
        and (role.layer >= 0 or role.kind.startswith("embed.p"))
    ]
    norms = {}
    for done, (role, view) in enumerate(matrices):
        progress("reading channel norms", done, len(matrices))
        total = np.zeros(view.shape[view.axes.index(Space.RESIDUAL)], dtype=np.float64)
        if view.axes[0] == Space.RESIDUAL:
            for start, stop in _steps(len(total), view.shape[1]):
                slab = read_units(checkpoint, view, Space.RESIDUAL, start, stop)
                total[start:stop] = np.einsum("ij,ij->i", slab, slab, dtype=np.float64)
        else:
            for start, stop in _steps(view.shape[0], view.shape[1]):
                slab = read_units(checkpoint, view, view.axes[0], start, stop)
                total += np.einsum("ij,ij->j", slab, slab, dtype=np.float64)
        norms[role] = np.sqrt(total).astype(np.float32)
    return norms


def _read_units(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: ReadingPlan,
    channels: dict[Role, Array],
    layer: int,
    expert: int,
    shared: bool,
) -> UnitBlock:
    def view_of(kind: str, part: str = "weight") -> View | None:
        return anatomy.views.get(Role(kind, part, layer, expert, shared))

    up_view = anatomy.views[Role("ffn.up", "weight", layer, expert, shared)]
    width = up_view.shape[up_view.axes.index(Space.FFN)]
    count = min(plan.units, width) if plan.units else width
    gain = channels.get(Role("norm.ffn", layer=layer)) if anatomy.traits.pre_norm else None

    digest = blake2b(digest_size=16)

    def rows(view: View | None, fold: Array | None) -> Array | None:
        if view is None:
            return None
        as_columns = view.axes[0] != Space.FFN
        block = _read_slabs(checkpoint, view, count, plan.slab if as_columns else None)
        digest.update(np.ascontiguousarray(block).data)
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
        layer, expert, shared, width, up, gate, down, bias, stored, _flaw(up, gate, down, bias, zero_of=up)
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
    checkpoint: Checkpoint, anatomy: Anatomy, plan: ReadingPlan, channels: dict[Role, Array], layer: int
) -> ValueBlock | None:
    view = anatomy.views.get(Role("attn.v", layer=layer))
    heads, dim = anatomy.dims.kv_heads, anatomy.dims.head_dim
    if view is None or not heads or not dim or Space.KV not in view.axes:
        return None
    stored_as_columns = view.axes[0] != Space.KV
    count = heads if plan.whole or stored_as_columns else 1
    slab = slice(0, plan.slab) if stored_as_columns and plan.slab else None
    rows = read_units(checkpoint, view, Space.KV, 0, count * dim, residual=slab)
    gain = channels.get(Role("norm.attn", layer=layer)) if anatomy.traits.pre_norm else None
    if gain is not None:
        rows = rows * gain[: rows.shape[1]]
    return ValueBlock(layer, heads, rows.reshape(count, dim, -1), _flaw(rows, zero_of=rows))


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
