"""The nouns of a sketch file: what is kept of a model, what it was made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

from homolog.roles.role import Anatomy
from homolog.sketch.condensed import PROJECT, Condensed
from homolog.sketch.kept_tokens import KeptTokens

__all__ = ["FORMAT", "VERSION", "SketchOptions", "Source", "Stored", "TensorDigest", "count_kept"]

FORMAT, VERSION = "homolog.sketch", 1


@dataclass(frozen=True, slots=True)
class SketchOptions:
    """How a sketch is made: two sketches can be compared in full if they are alike."""

    seed: int = 0
    units: int = 64
    """Leading units kept of every FFN of a large model; of one up to 128 MB at least 256."""
    dimensions: int = 96
    """Numbers kept of every row."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a sketch was made from."""

    format: str
    parameters: int
    tensors: int
    nbytes: int
    """Bytes of all tensors together."""
    dtypes: Mapping[str, int]
    files: tuple[tuple[str, int], ...]
    """Names and sizes of the weight files."""
    digest: str
    """SHA-256 of the list of tensors and of every range that was read, headers included."""
    full_digest: str | None
    """SHA-256 over the digests of all tensors; ``None`` unless all were read."""
    side_files: Mapping[str, str]
    """SHA-256 of the config and the tokenizer that were used."""
    read_bytes: int
    of_bytes: int
    requests: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorDigest:
    """One tensor as stored."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    """Of its bytes, row-major and little-endian."""
    roles: tuple[str, ...]
    """What it does in the model: the same for a tensor of another name."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A sketch as a file holds it."""

    homolog: str
    """The version that made it."""
    options: SketchOptions
    source: Source
    anatomy: Anatomy
    tokens: KeptTokens
    condensed: Condensed
    tensors: tuple[TensorDigest, ...] | None = None
    """A digest of every tensor, if all were read."""
    digest: str = ""
    """SHA-256 of the file's own list of digests: what names this sketch. Empty until it is stored."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of every member of the file."""

    def with_tensors(self, tensors: tuple[TensorDigest, ...], full_digest: str) -> Stored:
        """The same sketch with a digest of every tensor."""
        return replace(self, tensors=tensors, source=replace(self.source, full_digest=full_digest))

    @property
    def limits(self) -> tuple[str, ...]:
        """What a comparison with this sketch cannot test or show, in words."""
        width, options = self.anatomy.dims.width, self.options
        forged = (
            "a sketch alone can be forged: it says something of the weights only as far as it is known to come from them; "
            "whoever has them makes it again and compares the bytes"
        )
        bound = "that two models are identical shows only against another one that holds a digest of every tensor"
        if self.tensors is None:
            share = min(1.0, self.source.read_bytes / max(self.source.of_bytes, 1))
            bound = (
                f"it is bound to the {share:.1%} of the weights that were read for it, not to the rest, and cannot show that two models "
                "are identical"
            )
        lost = "copies with permuted units and a rotated residual stream at once are not looked for"
        if width > options.dimensions:
            lost += (
                f"; rows are kept as {options.dimensions} numbers of {width}, and rows whose cosine with their origin fell below about "
                f"{2 / sqrt(options.dimensions):.1f} are not recognised"
            )
        return forged, bound, lost

    def to_json(self) -> dict[str, Any]:
        """Plain data for people and programs: what it is of, what is kept, and how little that is of the model."""
        source, dims = self.source, self.anatomy.dims
        return {
            "version": VERSION,
            "sha256": self.digest,
            "homolog": self.homolog,
            "options": {
                "seed": self.options.seed,
                "units": self.options.units,
                "dimensions": self.options.dimensions,
                "full": self.tensors is not None,
            },
            "made_from": {
                "format": source.format,
                "architecture": self.anatomy.architecture,
                "parameters": source.parameters,
                "tensors": source.tensors,
                "bytes": source.nbytes,
                "dims": {name: getattr(dims, name) for name in dims.__slots__},
                "dtypes": dict(source.dtypes),
                "files": [{"name": name, "bytes": size} for name, size in source.files],
                "side_files": dict(source.side_files),
                "digest": source.digest,
                "full_digest": source.full_digest,
                "read": {"bytes": source.read_bytes, "of": source.of_bytes, "requests": source.requests},
                "notes": list(source.notes),
            },
            "kept": count_kept(self),
            "members": dict(self.sizes),
        }


def count_kept(stored: Stored) -> dict[str, Any]:
    """How much of the weights a sketch holds: numbers as they were, rows as projections, and the model's numbers that those come from."""
    condensed, width = stored.condensed, stored.anatomy.dims.width
    rows = len(condensed.up.numbers) * (2 if condensed.gate is not None else 1)
    rows += len(condensed.values.numbers) + len(condensed.experts.numbers)
    rows += sum(len(table.untrained.numbers) for table in condensed.tables.values())
    verbatim = sum(vector.size for vector in condensed.channels.values())
    verbatim += sum(table.columns.size for table in condensed.tables.values())
    names = 3 if condensed.gate is not None else 1
    verbatim += len(condensed.profile) * max(0, (condensed.profile.shape[1] if condensed.profile.size else 0) - names)
    turned = condensed.up_turned.numbers.shape[1] if condensed.up_turned is not None else 0
    each = min(width, condensed.projection.dimensions) + turned
    whole = each >= width
    parameters = max(stored.source.parameters, 1)
    return {
        "verbatim_numbers": verbatim,
        "verbatim_share": verbatim / parameters,
        "rows": rows,
        "numbers_a_row": min(each, width),
        "row_width": width,
        "rows_can_be_rebuilt": whole,
        "rebuildable_share": (verbatim + (rows * width if whole else 0)) / parameters,
        "token_rows": len(stored.tokens.ids) + len(stored.tokens.untrained_ids),
        "tables": sorted(key for key in condensed.tables if key != PROJECT),
    }
