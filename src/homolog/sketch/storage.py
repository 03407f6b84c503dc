"""Sketches as files: which member holds what is written down in docs/data-model.md, byte by byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.checkpoint.source import Source as ByteSource
from homolog.errors import UnsupportedFormat
from homolog.roles.role import Anatomy, Dims, Role, Traits
from homolog.sketch.condensed import (
    CHANNELS,
    COLUMNS,
    FLAWS,
    PROJECT,
    Block,
    Condensed,
    Coordinates,
    Heads,
    Router,
    Table,
)
from homolog.sketch.container import MANIFEST, Members, encode_array, pack
from homolog.sketch.fields import Fields, parse_json, read_manifest
from homolog.sketch.kept_tokens import MOST_ORDINARY, MOST_UNTRAINED, KeptTokens
from homolog.sketch.projection import Projection
from homolog.sketch.stored import FORMAT, VERSION, SketchOptions, Source, Stored, TensorDigest, count_kept

__all__ = ["decode_sketch", "encode_sketch"]

_TENSORS = "tensors.jsonl"
_MOST_LAYERS, _MOST_ROWS, _MOST_TENSORS, _MOST_ROLES = 2000, 65_536, 300_000, 20_000
_LARGE = 2**50
_TABLES = ("embed", "unembed", PROJECT)
_CURVES = ("q", "k", "v", "o")
_LATTICE = re.compile(r"[A-Za-z][A-Za-z0-9_ ,.:()×-]{0,199}")


def encode_sketch(stored: Stored) -> bytes:
    """The file: the same sketch gives the same bytes."""
    condensed, tokens = stored.condensed, stored.tokens
    classes = sorted(set(tokens.classes))
    members = {MANIFEST: _encode_manifest(stored, classes)}

    def keep(name: str, array: npt.NDArray[Any] | None) -> None:
        if array is not None:
            members[f"{name}.npy"] = encode_array(array)

    def keep_rows(name: str, rows: Coordinates | None) -> None:
        if rows is not None:
            keep(name, rows.numbers.astype(rows.numbers.dtype.newbyteorder("<")))
            keep(f"{name}.scale", rows.scale.astype("<f4"))

    keep_rows("units.up", condensed.up)
    keep_rows("units.gate", condensed.gate)
    keep_rows("units.up.turned", condensed.up_turned)
    keep_rows("units.gate.turned", condensed.gate_turned)
    keep("units.profile", condensed.profile.astype("<f4"))
    if condensed.profile_with_down is not None:
        keep("units.profile.down", condensed.profile_with_down.astype("<f4"))
    keep("units.digest", condensed.digests)
    keep_rows("values", condensed.values)
    keep_rows("experts", condensed.experts)
    keep("channels", _compact(_rows_of(condensed.channels)))
    keep("norms", _compact(_rows_of(condensed.norms)))
    curves = list(condensed.spreads.values())
    keep("spreads", np.array(curves, dtype="<f4") if curves else np.empty((0, 0), dtype="<f4"))
    keep("tokens.id", tokens.ids.astype("<u4"))
    keep("tokens.key", tokens.keys.astype("<u8"))
    keep("tokens.untrained.id", tokens.untrained_ids.astype("<u4"))
    keep("tokens.untrained.key", tokens.untrained_keys.astype("<u8"))
    keep("tokens.untrained.class", np.array([classes.index(label) for label in tokens.classes], dtype=np.uint8))
    for key, table in condensed.tables.items():
        keep(f"{key}.columns", _compact(table.columns))
        keep_rows(f"{key}.untrained", table.untrained)
        keep_rows(f"{key}.turned", table.ordinary_turned)
        keep_rows(f"{key}.untrained.turned", table.untrained_turned)
    if stored.tensors is not None:
        members[_TENSORS] = b"".join(_encode_tensors(stored.tensors))
    return pack(members)


def decode_sketch(source: ByteSource) -> Stored:
    """The sketch in a file.

    Raises ``UnsupportedFormat`` for a sketch of another version and ``MalformedCheckpoint`` for a file that is cut short, was edited, or
    contradicts the format.
    """
    members = Members(source)
    fields = read_manifest(members.body(MANIFEST), members)
    if fields.text("format") != FORMAT:
        raise members.fail("format", repr(fields.text("format")), repr(FORMAT))
    version = fields.integer("version", 0, 10**6)
    if version != VERSION:
        raise UnsupportedFormat(
            members.path,
            at="version",
            found=f"a sketch of version {version}",
            expected=f"version {VERSION}: make it again, or read it with the homolog that made it",
        )
    anatomy = _decode_anatomy(fields)
    tokens = _decode_tokens(fields, members, anatomy)
    options = fields.inside("options")
    chosen = SketchOptions(
        options.integer("seed", 0, 2**63), options.integer("units", 8, 2**31), options.integer("dimensions", 8, 4096)
    )
    return Stored(
        homolog=fields.text("homolog"),
        options=chosen,
        source=_decode_source(fields.inside("source")),
        anatomy=anatomy,
        tokens=tokens,
        condensed=_decode_condensed(fields, members, anatomy, tokens, chosen),
        tensors=tuple(_decode_tensors(members)) if _TENSORS in members else None,
        digest=members.digest,
        sizes=members.sizes,
    )


def _encode_manifest(stored: Stored, classes: Sequence[str]) -> bytes:
    condensed, source, anatomy = stored.condensed, stored.source, stored.anatomy
    document = {
        "format": FORMAT,
        "version": VERSION,
        "homolog": stored.homolog,
        "options": asdict(stored.options),
        "source": {**asdict(source), "files": [list(file) for file in source.files]},
        "architecture": anatomy.architecture,
        "dims": asdict(anatomy.dims),
        "traits": {
            "gated": anatomy.traits.gated,
            "norm": anatomy.traits.norm,
            "pre_norm": anatomy.traits.pre_norm,
            "ordered": {str(key): text for key, text in sorted(anatomy.traits.ordered.items())},
        },
        "blocks": [[b.layer, b.expert, int(b.shared), b.width, b.count, b.flaw] for b in condensed.blocks],
        "heads": [[v.layer, v.heads, v.kept, v.dimensions, v.flaw] for v in condensed.heads],
        "routers": [[r.layer, r.experts, r.kept] for r in condensed.routers],
        "channels": [_encode_role(role) for role in condensed.channels],
        "norms": [_encode_role(role) for role in condensed.norms],
        "spreads": list(condensed.spreads),
        "tokens": {"height": stored.tokens.height, "source": stored.tokens.source, "classes": list(classes)},
        "tables": {key: {"precision": t.precision, "flaw": t.flaw} for key, t in condensed.tables.items()},
        "lattice": condensed.lattice,
        "warnings": list(condensed.warnings[:1000]),
        "kept": count_kept(stored),
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=0).encode("ascii") + b"\n"


def _encode_role(role: Role) -> list[Any]:
    return [role.kind, role.part, role.layer, role.expert, int(role.shared), role.detail]


def _encode_tensors(tensors: Sequence[TensorDigest]) -> Iterator[bytes]:
    for tensor in tensors:
        line = [tensor.sha256, tensor.dtype, list(tensor.shape), tensor.name, list(tensor.roles)]
        yield json.dumps(line, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def _rows_of(vectors: Mapping[Role, Array]) -> Array:
    return np.stack(list(vectors.values())) if vectors else np.empty((0, 0), dtype=np.float32)


def _compact(rows: Array) -> npt.NDArray[Any]:
    """The same numbers in two bytes each where nothing is lost: the upper halves of bf16 (``<u2``) or ``<f2``; else ``<f4``."""
    bits = np.ascontiguousarray(rows, dtype="<f4").view("<u4")
    if not (bits & 0xFFFF).any():
        return (bits >> 16).astype("<u2")
    with np.errstate(all="ignore"):
        halves = rows.astype("<f2")
    return halves if np.array_equal(halves.astype(np.float32), rows) else rows.astype("<f4")


def _widen(rows: npt.NDArray[Any]) -> Array:
    if rows.dtype == np.dtype("<u2"):
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(rows, dtype=np.float32)


def _decode_anatomy(fields: Fields) -> Anatomy:
    dims, traits = fields.inside("dims"), fields.inside("traits")
    limits = {"layers": _MOST_LAYERS, "width": 2**22}
    sizes = {name: dims.integer(name, 0, limits.get(name, 2**40)) for name in Dims.__dataclass_fields__}
    ordered = traits.inside("ordered")
    return Anatomy(
        architecture=fields.text("architecture"),
        dims=Dims(**sizes),
        traits=Traits(
            gated=traits.truth("gated"),
            norm=traits.text("norm"),
            pre_norm=traits.truth("pre_norm"),
            ordered={key: ordered.text(key) for key in ordered.keys(100)},
        ),
        views={},
        unused={},
        missing=(),
    )


def _decode_source(fields: Fields) -> Source:
    dtypes, side = fields.inside("dtypes"), fields.inside("side_files")
    return Source(
        format=fields.text("format"),
        parameters=fields.integer("parameters", 0, _LARGE),
        tensors=fields.integer("tensors", 0, _MOST_TENSORS),
        nbytes=fields.integer("nbytes", 0, _LARGE),
        dtypes={key: dtypes.integer(key, 0, _LARGE) for key in dtypes.keys(100)},
        files=tuple((row.text(0), row.integer(1, 0, _LARGE)) for row in fields.rows("files", 10_000, 2)),
        digest=fields.sha256("digest"),
        full_digest=fields.sha256("full_digest") if fields.has("full_digest") else None,
        side_files={key: side.sha256(key) for key in side.keys(100)},
        read_bytes=fields.integer("read_bytes", 0, _LARGE),
        of_bytes=fields.integer("of_bytes", 0, _LARGE),
        requests=fields.integer("requests", 0, _LARGE),
        notes=fields.texts("notes", 1000),
    )


def _decode_tokens(fields: Fields, members: Members, anatomy: Anatomy) -> KeptTokens:
    stated = fields.inside("tokens")
    height = stated.integer("height", 0, 2**31)
    if height != anatomy.dims.vocab:
        raise members.fail("tokens", f"an embedding of {height} rows", f"{anatomy.dims.vocab}, the vocabulary")
    ids = members.array("tokens.id", ["<u4"], (None,))
    untrained = members.array("tokens.untrained.id", ["<u4"], (None,))
    if len(ids) > MOST_ORDINARY or len(untrained) > MOST_UNTRAINED:
        raise members.fail("tokens", f"{len(ids)} and {len(untrained)} rows", f"{MOST_ORDINARY} and {MOST_UNTRAINED}")
    labels = stated.texts("classes", 200)
    classes = members.array("tokens.untrained.class", ["|u1"], (len(untrained),))
    if classes.size and int(classes.max()) >= len(labels):
        raise members.fail("tokens.untrained.class", f"class {classes.max()}", f"one of {len(labels)}")
    return KeptTokens(
        height=height,
        source=stated.text("source") if stated.has("source") else None,
        ids=ids.astype(np.int64),
        keys=members.array("tokens.key", ["<u8"], (len(ids),)).astype(np.uint64),
        untrained_ids=untrained.astype(np.int64),
        untrained_keys=members.array("tokens.untrained.key", ["<u8"], (len(untrained),)).astype(np.uint64),
        classes=tuple(labels[number] for number in classes),
    )


def _decode_condensed(
    fields: Fields, members: Members, anatomy: Anatomy, tokens: KeptTokens, options: SketchOptions
) -> Condensed:
    layers, width = anatomy.dims.layers, anatomy.dims.width
    blocks = tuple(
        Block(
            layer=row.integer(0, 0, layers - 1),
            expert=row.integer(1, -1, 2**20),
            shared=row.truth(2),
            width=row.integer(3, 1, 2**31),
            count=row.integer(4, 1, _MOST_ROWS),
            flaw=row.integer(5, 0, len(FLAWS) - 1),
        )
        for row in fields.rows("blocks", _MOST_ROWS, 6)
    )
    heads = tuple(
        Heads(
            row.integer(0, 0, layers - 1),
            row.integer(1, 1, 2**20),
            row.integer(2, 1, 2**10),
            row.integer(3, 1, 2**10),
            row.integer(4, 0, len(FLAWS) - 1),
        )
        for row in fields.rows("heads", _MOST_LAYERS, 5)
    )
    routers = tuple(
        Router(row.integer(0, 0, layers - 1), row.integer(1, 1, 2**20), row.integer(2, 1, 2**10))
        for row in fields.rows("routers", _MOST_LAYERS, 3)
    )
    _check_distinct(members, "blocks", [(b.layer, b.expert, b.shared) for b in blocks])
    _check_distinct(members, "heads", [value.layer for value in heads])
    _check_distinct(members, "routers", [router.layer for router in routers])
    counts = (
        sum(block.count for block in blocks),
        sum(value.kept * value.dimensions for value in heads),
        sum(router.kept for router in routers),
    )
    if max(counts) > _MOST_ROWS or any(b.count > b.width for b in blocks):
        raise members.fail("blocks", f"{max(counts)} rows", f"at most {_MOST_ROWS}, and no more of an FFN than it has")

    length = min(width, options.dimensions)
    gated, turned = "units.gate.npy" in members, "units.up.turned.npy" in members
    profile = members.array("units.profile", ["<f4"], (counts[0] if blocks else 0, None))
    names = 3 if gated else 1
    if blocks and not names <= profile.shape[1] <= names + 64:
        raise members.fail("units.profile", f"{profile.shape[1]} features", f"{names}, and biases")
    down = None
    if "units.profile.down.npy" in members:
        features = profile.shape[1] + (3 if gated else 2) if blocks else None
        down = members.array("units.profile.down", ["<f4"], (len(profile), features))
    up_turned = _decode_rows(members, "units.up.turned", counts[0], None) if turned else None
    directions = up_turned.numbers.shape[1] if up_turned is not None else 0
    return Condensed(
        projection=Projection(options.seed, options.dimensions),
        blocks=blocks,
        up=_decode_rows(members, "units.up", counts[0], length),
        gate=_decode_rows(members, "units.gate", counts[0], length) if gated else None,
        up_turned=up_turned,
        gate_turned=_decode_rows(members, "units.gate.turned", counts[0], directions) if turned and gated else None,
        profile=profile,
        profile_with_down=down,
        digests=members.array("units.digest", ["|u1"], (len(blocks), 16)),
        heads=heads,
        values=_decode_rows(members, "values", counts[1], length),
        routers=routers,
        experts=_decode_rows(members, "experts", counts[2], length),
        channels=_decode_vectors(fields, members, "channels", layers, width),
        norms=_decode_vectors(fields, members, "norms", layers, width),
        tables=dict(_decode_tables(fields, members, tokens, width, length, directions)),
        spreads=_decode_spreads(fields, members, layers),
        warnings=fields.texts("warnings", 1000),
        lattice=_decode_lattice(fields, members),
    )


def _decode_lattice(fields: Fields, members: Members) -> str:
    """Words that are shown to people, and read for the number of bits; absent from sketches older than it."""
    lattice = fields.text("lattice") if fields.has("lattice") else ""
    if lattice and not _LATTICE.fullmatch(lattice):
        raise members.fail("lattice", f"{lattice!r:.60}", "how numbers are quantised, in a few words")
    return lattice


def _decode_rows(members: Members, name: str, count: int, length: int | None, kind: str = "|i1") -> Coordinates:
    numbers = members.array(name, [kind], (count, length))
    return Coordinates(numbers, members.array(f"{name}.scale", ["<f4"], (count,)))


def _decode_turned(members: Members, name: str, count: int, directions: int) -> Coordinates | None:
    return _decode_rows(members, name, count, directions, "<i2") if directions and f"{name}.npy" in members else None


def _decode_vectors(fields: Fields, members: Members, name: str, layers: int, width: int) -> dict[Role, Array]:
    roles = [
        Role(
            kind=row.text(0),
            part=row.text(1),
            layer=row.integer(2, -1, layers - 1),
            expert=row.integer(3, -1, 2**20),
            shared=row.truth(4),
            detail=row.text(5),
        )
        for row in fields.rows(name, _MOST_ROLES, 6)
    ]
    _check_distinct(members, name, roles)
    length = min(width, CHANNELS) if roles else 0
    rows = _widen(members.array(name, ["<u2", "<f2", "<f4"], (len(roles), length)))
    return dict(zip(roles, rows, strict=True))


def _decode_tables(
    fields: Fields, members: Members, tokens: KeptTokens, width: int, length: int, directions: int
) -> Iterator[tuple[str, Table]]:
    stated = fields.inside("tables")
    for key in stated.keys(len(_TABLES)):
        if key not in _TABLES:
            raise members.fail("tables", f"the table {key!r}", " or ".join(_TABLES))
        table, project = stated.inside(key), key == PROJECT
        ordinary, untrained = (None, 0) if project else (len(tokens.ids), len(tokens.untrained_ids))
        columns = members.array(f"{key}.columns", ["<u2", "<f2", "<f4"], (ordinary, min(width, COLUMNS)))
        if len(columns) > MOST_ORDINARY:
            raise members.fail(f"{key}.columns", f"{len(columns)} rows", f"at most {MOST_ORDINARY}")
        yield (
            key,
            Table(
                columns=_widen(columns),
                untrained=_decode_rows(members, f"{key}.untrained", untrained, length, "<i2"),
                ordinary_turned=_decode_turned(members, f"{key}.turned", len(columns), directions),
                untrained_turned=_decode_turned(members, f"{key}.untrained.turned", untrained, directions),
                precision=table.number("precision", 0.0, 1.0),
                flaw=table.integer("flaw", 0, len(FLAWS) - 1),
            ),
        )


def _decode_spreads(fields: Fields, members: Members, layers: int) -> dict[str, tuple[float, ...]]:
    kinds = fields.texts("spreads", len(_CURVES))
    if not set(kinds) <= set(_CURVES):
        raise members.fail("spreads", repr(kinds), f"some of {_CURVES}")
    curves = members.array("spreads", ["<f4"], (len(kinds), layers if kinds else None))
    return {kind: tuple(curve.tolist()) for kind, curve in zip(kinds, curves, strict=True)}


def _decode_tensors(members: Members) -> Iterator[TensorDigest]:
    body = members.body(_TENSORS)
    lines = body.count(b"\n")
    if lines > _MOST_TENSORS:
        raise members.fail(_TENSORS, f"{lines} lines", f"at most {_MOST_TENSORS}")
    for number, line in enumerate(body.splitlines()):
        row = Fields(parse_json(line, members, _TENSORS, list), members, f"{_TENSORS}, line {number + 1}").row(5)
        yield TensorDigest(
            name=row.text(3),
            dtype=row.text(1),
            shape=row.integers(2, 32),
            sha256=row.sha256(0),
            roles=row.texts(4, 10_000),
        )


def _check_distinct(members: Members, name: str, entries: Sequence[Any]) -> None:
    if len(set(entries)) != len(entries):
        raise members.fail(name, "an entry twice", "each once")
