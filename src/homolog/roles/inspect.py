"""What a checkpoint is, before it is compared with anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from homolog.checkpoint.base import Checkpoint, TensorInfo
from homolog.roles.flaws import Flaws, find_flaws
from homolog.roles.names import shorten
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy

if TYPE_CHECKING:
    from homolog.checkpoint.remote import FetchPlan

__all__ = ["FoundRole", "Inspection", "inspect"]


_TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True, slots=True)
class FoundRole:
    """One role and where it lies."""

    role: str
    tensor: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """Format, architecture, roles, numbers and warnings of one checkpoint."""

    id: str
    format: str
    anatomy: Anatomy
    roles: tuple[FoundRole, ...]
    tensors: int
    parameters: int
    nbytes: int
    dtypes: Mapping[str, int]
    """Parameters stored in each dtype, or quantised in each way (``int4``), most first."""
    files: tuple[str, ...]
    flaws: Flaws
    notes: tuple[str, ...]
    """Of the reader and of the resolver."""
    warnings: tuple[str, ...] = ()
    tokenizer: str | None = None
    """The tokenizer inside or beside the weights, in words; ``None`` if none was found."""
    read: Mapping[str, int] = field(default_factory=dict)
    """``bytes``, ``of`` and ``requests``: what this inspection read of the weights."""
    alone: Mapping[str, Any] | None = None
    """What the blocks of the model say of each other, as the document has it; ``None`` if that was not asked."""

    @property
    def architecture(self) -> str:
        """The family's id, ``unknown`` if no family fits."""
        return self.anatomy.architecture

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same for the same checkpoint."""
        anatomy = self.anatomy
        return {
            "schema": "homolog.inspection/1",
            "id": self.id,
            "format": self.format,
            "architecture": anatomy.architecture,
            "reason": anatomy.reason,
            "dims": asdict(anatomy.dims),
            "traits": asdict(anatomy.traits),
            "tensors": self.tensors,
            "parameters": self.parameters,
            "bytes": self.nbytes,
            "dtypes": dict(self.dtypes),
            "files": list(self.files),
            "tokenizer": self.tokenizer,
            "roles": [
                {
                    "role": role.role,
                    "tensor": role.tensor,
                    "axes": list(role.axes),
                    "shape": list(role.shape),
                    "dtype": role.dtype,
                }
                for role in self.roles
            ],
            "missing": list(anatomy.missing),
            "unused": dict(anatomy.unused),
            "flaws": {kind: list(names) for kind, names in asdict(self.flaws).items() if kind != "whole"},
            "values": "all" if self.flaws.whole else "sampled",
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "read": dict(self.read),
            "self": None if self.alone is None else dict(self.alone),
        }

    def __repr__(self) -> str:
        return f"<Inspection of {self.id}: {self.anatomy.architecture}, {self.parameters:,} parameters>"

    def _repr_html_(self) -> str:
        dims = self.anatomy.dims
        rows = {
            "format": self.format,
            "architecture": self.architecture + (f" ({self.anatomy.reason})" if self.anatomy.reason else ""),
            "size": f"{self.parameters:,} parameters, {dims.layers} layers, width {dims.width}, {dims.ffn} FFN units",
            "dtypes": ", ".join(f"{dtype}: {count:,}" for dtype, count in self.dtypes.items()),
            "tensors": f"{len(self.roles)} roles, {len(self.anatomy.unused)} unused, {len(self.anatomy.missing)} missing",
            "warnings": "; ".join(self.warnings) or "none",
        }
        if self.alone and self.alone["sentences"]:
            rows["itself"] = "; ".join(self.alone["sentences"])
        cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items())
        return f"<table><caption>{escape(self.id)}</caption>{cells}</table>"


def inspect(
    checkpoint: Checkpoint, *, values: bool = False, announce: Callable[[str], None] = lambda text: None
) -> Inspection:
    """Say what a checkpoint is.

    ``values`` reads every number to find NaN, infinities and zeroed or constant tensors; without it some rows of each tensor are
    sampled. ``announce`` is called with what is about to be fetched of a checkpoint that lies elsewhere, in words. Raises
    `MalformedCheckpoint` where config.json contradicts the shapes.
    """
    start, requests = checkpoint.meter.bytes, checkpoint.meter.requests
    anatomy = resolve(checkpoint)
    tensors = checkpoint.tensors
    passed_over = {**anatomy.traits.fixed, **_constants(anatomy)}
    remote = checkpoint.meter.remote
    if remote is not None and not values:
        # a request for each of 256 experts a layer would take an hour
        passed_over |= _other_experts(anatomy)
    if remote is not None:
        of = sum(checkpoint.meter.sizes[file] for file in checkpoint.files)

        def say(plan: FetchPlan) -> None:
            announce(plan.describe(checkpoint.path, of))

        if values:
            remote.require_all(say)
        else:
            remote.prepare(partial(find_flaws, checkpoint, whole=False, passed_over=passed_over), say)
    flaws = find_flaws(checkpoint, whole=values, passed_over=passed_over)
    dtypes: Counter[str] = Counter()
    for info in tensors.values():
        dtypes[_stored_as(info)] += info.size
    return Inspection(
        id=checkpoint.path.name or str(checkpoint.path),
        format=checkpoint.format,
        anatomy=anatomy,
        roles=tuple(
            FoundRole(
                str(role),
                view.tensor,
                tuple(space.value for space in view.axes),
                view.shape,
                _stored_as(tensors[view.tensor]),
            )
            for role, view in anatomy.views.items()
        ),
        tensors=len(tensors),
        parameters=checkpoint.parameters,
        nbytes=checkpoint.nbytes,
        dtypes=dict(sorted(dtypes.items(), key=lambda item: (-item[1], item[0]))),
        files=tuple(file.name for file in checkpoint.files),
        flaws=flaws,
        notes=(*checkpoint.notes, *anatomy.notes),
        warnings=(*_structure(anatomy), *flaws.warnings()),
        tokenizer=_tokenizer(checkpoint),
        read={
            "bytes": checkpoint.meter.bytes - start,
            "of": checkpoint.nbytes,
            "requests": checkpoint.meter.requests - requests,
        },
    )


def _stored_as(info: TensorInfo) -> str:
    """The dtype; of what is decoded on reading how it is kept: ``int4``."""
    return info.lattice.partition(",")[0] if info.lattice and info.dtype == "F32" else info.dtype


def _tokenizer(checkpoint: Checkpoint) -> str | None:
    table, folder = checkpoint.tokenizer, checkpoint.folder
    if table is not None:
        kind = f" ({shorten(table.model)})" if table.model else ""
        return f"{len(table.tokens)} tokens{kind}, in the weight file"
    if checkpoint.meter.remote is not None:
        return checkpoint.meter.remote.find_side(_TOKENIZERS)
    return next((name for name in _TOKENIZERS if folder is not None and (folder / name).is_file()), None)


def _other_experts(anatomy: Anatomy) -> dict[str, str]:
    """Tensors that hold nothing but routed experts, the first of each layer excepted, and why they are passed over."""
    first: dict[str, int] = {}
    for role, view in anatomy.views.items():
        first[view.tensor] = min(role.expert, first.get(view.tensor, role.expert))
    return {name: "of routed experts the first is sampled" for name, expert in first.items() if expert > 0}


def _constants(anatomy: Anatomy) -> Mapping[str, str]:
    """Known buffers (masks, position numbers) are constant by design; of an unknown family nothing is known."""
    return anatomy.unused if anatomy.reason is None else {}


def _structure(anatomy: Anatomy) -> list[str]:
    warnings = []
    if anatomy.reason is not None:
        warnings.append(f"the architecture is unknown: {anatomy.reason}")
    if anatomy.missing:
        rest = f" and {len(anatomy.missing) - 1} more" if len(anatomy.missing) > 1 else ""
        warnings.append(f"missing: {anatomy.missing[0]}{rest}")
    strange = [name for name, reason in anatomy.unused.items() if reason.startswith("no rule ")]
    if strange and anatomy.reason is None:
        count = "1 tensor has" if len(strange) == 1 else f"{len(strange)} tensors have"
        warnings.append(f"{count} no role in this family, for example {shorten(strange[0])}")
    return warnings
