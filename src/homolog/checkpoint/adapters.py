"""Adapters in the layout of PEFT: what a LoRA folder declares, which matrices it changes, and what it can and cannot say by itself.

A LoRA holds for each changed matrix W two thin ones, A (rank × inputs) and B (outputs × rank), and stands for W + s · B · A, where s is
``lora_alpha`` over the rank, or over its root with ``use_rslora`` (huggingface/peft, ``tuners/lora/layer.py``). It names its base but does
not hold it. The file that declares all this may say anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from homolog.checkpoint.base import Array, Checkpoint, Meter, TensorInfo
from homolog.checkpoint.formats import read_contents
from homolog.checkpoint.jsontext import parse_small_json
from homolog.checkpoint.ranged import RangedCheckpoint
from homolog.checkpoint.shards import check_inside
from homolog.checkpoint.source import FilePool, FileSource
from homolog.checkpoint.wording import list_names
from homolog.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsupportedFormat

__all__ = ["Adapter", "Change", "LoneAdapter", "fits", "is_adapter", "match_base", "open_adapter", "split_address"]

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))(?:\.\w{1,64})??(?:\.weight)?"
)
_SAVED = re.compile(
    r"(?P<module>.+?)\.(?:modules_to_save|base_layer|original_module)(?:\.\w{1,64})??\.(?P<leaf>weight|bias)"
)
_LITERAL = re.compile(r"[\w.\-]{1,300}")
_STARTS = (True, False, None, "gaussian", "eva", "true", "True")
"""Ways to begin that leave the base as it is."""
_CHANGING = (
    "layer_replication",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "lora_bias",
    "target_parameters",
)
"""Settings that make more of a LoRA than W + s · B · A."""
_LARGEST_RANK = 1 << 16


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to one matrix: ``scale · B · A``."""

    module: str
    a: str
    """Stored tensor of rank × inputs; of an embedding rank × tokens."""
    b: str
    """Stored tensor of outputs × rank."""
    rank: int
    inputs: int
    outputs: int
    scale: float
    embedding: bool = False
    magnitude: str = ""
    """DoRA: stored norms that the merged rows are given; empty for plain LoRA."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA folder, opened: headers read, no weights."""

    folder: Path
    checkpoint: Checkpoint
    """Over the stored tensors."""
    base: str
    """Name of the base model as declared; whatever it says, it is no evidence."""
    changes: Mapping[str, Change]
    """By the name of the changed matrix in the base."""
    saved: Mapping[str, str]
    """Whole tensors that take the place of the base's (``modules_to_save``, trained biases), with their stored names."""
    fan_in_fan_out: bool
    """Whether the base stores these matrices as input × output (Conv1D)."""

    def describe(self) -> str:
        """Rank, scale and reach, in words."""
        ranks = sorted({change.rank for change in self.changes.values()})
        scales = sorted({change.scale for change in self.changes.values()})
        kind = "DoRA" if any(change.magnitude for change in self.changes.values()) else "LoRA"
        whole = f", and {len(self.saved)} whole tensors" if self.saved else ""
        return f"{kind} of rank {_span(ranks)} on {len(self.changes)} matrices, scale {_span(scales)}{whole}"


class LoneAdapter(Checkpoint):
    """An adapter without its base, for what can be said of it: its thin matrices, which have no role in any family."""

    def __init__(self, folder: Path) -> None:
        self.meter = Meter()
        self.adapter = open_adapter(folder, self.meter)
        self._stored = self.adapter.checkpoint
        self.path, self.format, self.tensors = folder, self._stored.format, self._stored.tensors
        self.config, self.files, self.folder = {}, self._stored.files, folder
        self.notes = (*self._stored.notes, f"an adapter without its base: {self.adapter.describe()}")

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_rows`."""
        return self._stored.read_rows(name, start, stop)

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """As `Checkpoint.read_rows_at`."""
        return self._stored.read_rows_at(name, ids)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """As `Checkpoint.read_bytes`."""
        return self._stored.read_bytes(name, start, stop)

    def close(self) -> None:
        """Release the file."""
        self._stored.close()


def split_address(path: str | os.PathLike[str]) -> tuple[str, Path] | None:
    """``BASE+ADAPTER`` as base and adapter's folder; ``None`` for any other path, and for one that exists as it is written."""
    text = os.fspath(path)
    if "+" not in text or os.path.lexists(text):
        return None
    for place in reversed([match.start() for match in re.finditer(r"\+", text)]):
        base, folder = text[:place], Path(text[place + 1 :])
        if base and os.path.lexists(folder / _CONFIG):
            return base, folder
    return None


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a folder with an adapter and no model."""
    folder = Path(path)
    if not os.path.lexists(folder / _CONFIG):
        return False
    names = {file.name for file in folder.iterdir()}
    weights = [name for name in names if name.endswith((".safetensors", ".bin", ".gguf", ".safetensors.index.json"))]
    return any(name in names for name in _WEIGHTS) and all(
        name.startswith(("adapter_", "training_")) for name in weights
    )


def open_adapter(folder: Path, meter: Meter) -> Adapter:
    """Read what a LoRA folder declares, and the header of its tensors; ``meter`` is the one that what is read counts for.

    Raises ``IncompleteCheckpoint`` where a file or half of a pair is missing, ``UnsupportedFormat`` for adapters of other kinds and
    settings, and ``MalformedCheckpoint`` where the tensors fit neither each other nor what is declared.
    """
    pool = FilePool()
    try:
        config_path = folder / _CONFIG
        check_inside(folder, config_path)
        config = parse_small_json(pool.read(config_path, 0, min(pool.size(config_path), (10 << 20) + 1)), config_path)
        _refuse_others(config_path, config)
        weights = next((folder / name for name in _WEIGHTS if os.path.lexists(folder / name)), None)
        if weights is None:
            expected = " or ".join(_WEIGHTS)
            raise IncompleteCheckpoint(folder, at="folder", found="no weights of the adapter", expected=expected)
        check_inside(folder, weights)
        contents = read_contents(FileSource(weights, pool, meter))
        stored = RangedCheckpoint(
            folder, contents, files=(weights,), folder=folder, config=config, pool=pool, meter=meter
        )
        return _Reader(folder, config_path, config, stored).read()
    except BaseException:
        pool.close()
        raise


def match_base(models: Sequence[Checkpoint]) -> str | None:
    """What can be said where one of two models is an adapter alone, in one sentence; ``None`` where neither is.

    Declared names and shapes are facts; none of them is evidence of descent.
    """
    for name, model, other in zip("AB", models, reversed(models), strict=True):
        if isinstance(model, LoneAdapter):
            return f"{name} is an adapter alone: {_explain(model.adapter, other)}"
    return None


def _explain(adapter: Adapter, other: Checkpoint) -> str:
    cannot = "a LoRA holds a change, not the weights that it changes, and cannot tell whose weights it was trained on"
    advice = "name its base as BASE+ADAPTER to compare the merged model"
    declared = f"it declares {list_names([adapter.base])} as its base" if adapter.base else "it declares no base"
    if isinstance(other, LoneAdapter):
        same = sum(adapter.changes.get(name) is not None for name in other.adapter.changes)
        return f"{declared}, and changes {same} of the {len(other.adapter.changes)} matrices that the other changes; {cannot}; {advice}"
    fitting = sum(fits(other.tensors.get(name), change) for name, change in adapter.changes.items())
    reach = (
        f"{fitting} of the {len(adapter.changes)} matrices that it changes are in the other model, in fitting shapes"
    )
    return f"{declared}, and {reach}: true of every model of that family, and no evidence; {cannot}; {advice}"


def fits(info: TensorInfo | None, change: Change) -> bool:
    """Whether a matrix of the base has the shape that the change needs, one way round or the other."""
    if info is None or len(info.shape) != 2:
        return False
    wanted = (change.inputs, change.outputs) if change.embedding else (change.outputs, change.inputs)
    return info.shape in (wanted, wanted[::-1])


class _Reader:
    """Sorts the stored tensors into changes and whole tensors."""

    def __init__(self, folder: Path, config_path: Path, config: Mapping[str, Any], stored: RangedCheckpoint) -> None:
        self._folder, self._config_path, self._config, self._stored = folder, config_path, config, stored
        self._pairs: dict[str, dict[str, str]] = {}
        self._saved: dict[str, str] = {}

    def read(self) -> Adapter:
        for name in self._stored.tensors:
            self._sort(name)
        changes = {f"{module}.weight": self._change(module, parts) for module, parts in self._pairs.items()}
        if not changes:
            expected = "pairs of lora_A and lora_B"
            raise MalformedCheckpoint(
                self._stored.files[0], at="tensors", found="no LoRA among them", expected=expected
            )
        base = self._config.get("base_model_name_or_path")
        return Adapter(
            folder=self._folder,
            checkpoint=self._stored,
            base=base if isinstance(base, str) else "",
            changes=dict(sorted(changes.items())),
            saved=self._saved,
            fan_in_fan_out=self._config.get("fan_in_fan_out") is True,
        )

    def _sort(self, name: str) -> None:
        inside = name.removeprefix(_PREFIX)
        part = _PART.fullmatch(inside)
        if part is not None:
            parts = self._pairs.setdefault(part["module"].removesuffix(".base_layer"), {})
            if part["part"] in parts:
                raise self._fail(name, "a second tensor for the same half", "one adapter a folder")
            parts[part["part"]] = name
            return
        if "lora_" in inside or "trainable_tokens" in inside:
            raise UnsupportedFormat(
                self._stored.files[0],
                at=f"tensor {name}",
                found="a part that homolog does not merge",
                expected="plain LoRA or DoRA",
            )
        saved = _SAVED.fullmatch(inside)
        target = f"{saved['module']}.{saved['leaf']}" if saved else inside
        if target in self._saved:
            raise self._fail(name, f"{target} a second time", "each tensor once")
        self._saved[target] = name

    def _change(self, module: str, parts: Mapping[str, str]) -> Change:
        embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
        halves = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        for half in halves:
            if half not in parts:
                at = f"tensor {_PREFIX}{module}.{half}.weight"
                raise IncompleteCheckpoint(self._stored.files[0], at=at, found="no such tensor", expected="both halves")
        a, b = (self._stored.tensors[parts[half]] for half in halves)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
            raise self._fail(
                b.name, f"shape {list(b.shape)}", f"outputs × rank, beside the {list(a.shape)} of {a.name}"
            )
        if a.shape[0] > _LARGEST_RANK or not all(info.dtype.startswith(("F", "BF")) for info in (a, b)):
            raise self._fail(a.name, f"{a.dtype} of shape {list(a.shape)}", "floats, of a rank that is one")
        magnitude = parts.get("lora_magnitude_vector", "")
        if magnitude and (embedding or self._stored.tensors[magnitude].size != b.shape[0]):
            shape = list(self._stored.tensors[magnitude].shape)
            raise self._fail(magnitude, f"shape {shape}", f"{b.shape[0]} norms, one for every output of a matrix")
        rank, scale = a.shape[0], self._scale(module, a.shape[0])
        return Change(module, a.name, b.name, rank, a.shape[1], b.shape[0], scale, embedding, magnitude)

    def _scale(self, module: str, rank: int) -> float:
        declared = self._setting("rank_pattern", module, "r", 8)
        if declared != rank:
            raise self._malformed(f"r of {module}", f"{declared:g}", f"{rank}, as the tensors have it")
        alpha = self._setting("alpha_pattern", module, "lora_alpha", 8)
        return alpha / (sqrt(rank) if self._config.get("use_rslora") is True else rank)

    def _setting(self, pattern: str, module: str, plain: str, default: float) -> float:
        """A number for one module: of the first pattern that its name ends with, else the one for all."""
        value = self._config.get(plain, default)
        patterns = self._config.get(pattern) or {}
        if not isinstance(patterns, Mapping):
            raise self._malformed(pattern, f"a JSON {type(patterns).__name__}", "an object")
        for key, own in patterns.items():
            literal = key.removeprefix("^").removesuffix("$")
            if not _LITERAL.fullmatch(literal):
                found, expected = f"{list_names([key])!r}", "module names, not expressions"
                raise UnsupportedFormat(self._config_path, at=pattern, found=found, expected=expected)
            if module == literal or (not key.startswith("^") and module.endswith(f".{literal}")):
                value = own
                break
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self._malformed(plain, f"{str(value)[:40]!r}", "a finite number")
        return float(value)

    def _malformed(self, at: str, found: str, expected: str) -> MalformedCheckpoint:
        return MalformedCheckpoint(self._config_path, at=at, found=found, expected=expected)

    def _fail(self, name: str, found: str, expected: str) -> MalformedCheckpoint:
        return MalformedCheckpoint(self._stored.files[0], at=f"tensor {name}", found=found, expected=expected)


def _refuse_others(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedFormat(path, at="peft_type", found=f"{str(kind)[:40]!r}", expected="'LORA'")
    for setting in _CHANGING:
        if config.get(setting):
            found = f"{setting} in use"
            raise UnsupportedFormat(path, at=setting, found=found, expected="plain LoRA or DoRA")
    start = config.get("init_lora_weights")
    if not isinstance(start, bool | str | None) or start not in _STARTS:
        found = f"{str(start)[:40]!r}: the base was changed before training began"
        expected = "an adapter of the base as published; convert it, or merge it and save the result"
        raise UnsupportedFormat(path, at="init_lora_weights", found=found, expected=expected)


def _span(values: list[int] | list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
