"""Which files of a folder are the model: one choice, stated, and the side files that belong to it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homolog.checkpoint.jsontext import parse_small_json
from homolog.checkpoint.shards import check_inside, count_shards, group_shards
from homolog.checkpoint.source import FilePool
from homolog.checkpoint.wording import list_names
from homolog.errors import CheckpointNotFound, IncompleteCheckpoint, UnsupportedFormat

__all__ = ["Choice", "choose_file", "choose_files", "read_config", "refuse_adapter"]

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".npz")
_FORMATS = (
    ("safetensors", (".safetensors",)),
    ("torch", (".bin", ".pt", ".pth")),
    ("npz", (".npz",)),
    ("GGUF", (".gguf",)),
    ("ONNX", (".onnx",)),
)
"""Most exact first: what is also stored as GGUF or ONNX is often quantised there."""
_NO_WEIGHTS = re.compile(
    r"(training_args|optim(izer)?|(lr_)?scheduler|rng_state|random_states|scaler|trainer_state)([._-].*|s?)|\..*"
)
_ADAPTER = re.compile(r"adapter_(model|config)\b.*")
_HUB_ORDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_NO_MODEL = re.compile(r"(mmproj|imatrix)[._-].*\.gguf|.*[._-](mmproj|imatrix)([._-].*)?\.gguf")
"""Beside a GGUF model: the projector of its pictures, and the statistics that it was quantised by."""
_QUANTISATION = re.compile(r"(?i)[._-](UD-)?(I?Q\d\w*|TQ\d_\d|MXFP4\w*|NVFP4|BF16|F(16|32))(-of-\d+)?(?=\.gguf$)")
_FOREIGN = (".h5", ".msgpack", ".ot", ".ckpt", ".mlmodel", ".tflite")
_MOST_FILES = 20_000
_LARGEST_CONFIG = 10 << 20


@dataclass(frozen=True, slots=True)
class Choice:
    """The files to read."""

    index: Path | None
    """The index of a sharded model."""
    files: tuple[Path, ...]
    """The weight files; empty where the index names them."""
    hub: bool
    """Whether the names are those of a model hub, which always come with a config."""
    notes: tuple[str, ...]


def choose_file(path: Path) -> Choice:
    """A file that was named. Raises ``IncompleteCheckpoint`` for an adapter."""
    if path.name.endswith(".index.json"):
        return Choice(path, (), False, ())
    refuse_adapter(path.parent, [path.name])
    pieces = count_shards(path.name)
    notes = (f"this is one of {pieces} pieces of a model; name the folder to read them all",) if pieces > 1 else ()
    return Choice(None, (path,), False, notes)


def choose_files(folder: Path, listed: Mapping[str, int] | None = None) -> Choice:
    """Choose one model out of a folder: safetensors before torch, npz, GGUF and ONNX, the hub's names before others.

    ``listed`` holds the files of a remote folder with their sizes; without it the folder is listed here.

    Raises ``CheckpointNotFound`` where there is none or no telling which, ``IncompleteCheckpoint`` for an adapter alone or missing
    pieces, and ``UnsupportedFormat`` where all there is are files of other frameworks.
    """
    names = _list_names(folder) if listed is None else sorted(listed)
    weights = [
        name
        for name in names
        if name.endswith(_SUFFIXES) and not any(other.fullmatch(name) for other in (_NO_WEIGHTS, _ADAPTER, _NO_MODEL))
    ]
    adapters = [name for name in names if _ADAPTER.fullmatch(name) and name.endswith(_SUFFIXES)]
    notes = (f"an adapter was left out: {list_names(adapters)}",) if adapters else ()
    for name in _HUB_ORDER:
        if name in names:
            rivals = [other for other in _HUB_ORDER if other in names and other != name]
            rivals += [other for other in weights if other.endswith((".npz", ".gguf", ".onnx"))]
            passed: tuple[str, ...] = (
                (f"{name} was chosen; {list_names(rivals)} lies beside it and was not read",) if rivals else ()
            )
            path = folder / name
            return Choice(
                path if name.endswith(".json") else None,
                () if name.endswith(".json") else (path,),
                True,
                passed + notes,
            )
    indices = [name for name in names if name.endswith((".safetensors.index.json", ".bin.index.json"))]
    if len(indices) == 1:
        return Choice(folder / indices[0], (), True, notes)
    if not weights:
        refuse_adapter(folder, names)
        foreign = [name for name in names if name.endswith(_FOREIGN)]
        expected = f"a weight file ({', '.join(_SUFFIXES)})"
        if foreign:
            raise UnsupportedFormat(folder, at="folder", found=list_names(foreign), expected=expected)
        raise CheckpointNotFound(
            folder, at="folder", found=f"{len(names)} files, none of them weights", expected=expected
        )
    groups, passed = _choose_format(group_shards(weights))
    if len(groups) > 1:
        groups, passed = _choose_largest(folder, groups, passed, listed)
    if len(groups) > 1:
        found = f"{len(groups)} weight files without an index: {list_names(list(groups))}"
        raise CheckpointNotFound(
            folder, at="folder", found=found, expected="one model; name the file itself to read it"
        )
    pieces = next(iter(groups.values()))
    if len(pieces) != count_shards(pieces[0]):
        found = f"{len(pieces)} of {count_shards(pieces[0])} pieces such as {pieces[0]}"
        raise IncompleteCheckpoint(folder, at="folder", found=found, expected="all of them")
    joined = ("the pieces come without an index and were joined by their numbers",) if len(pieces) > 1 else ()
    return Choice(None, tuple(folder / piece for piece in pieces), False, passed + joined + notes)


def _choose_format(groups: dict[str, list[str]]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The models in the most exact format that is there, and what was passed over for it."""
    title, chosen = next(
        (title, found)
        for title, suffixes in _FORMATS
        if (found := {key: group for key, group in groups.items() if key.endswith(suffixes)})
    )
    others = [key for key in groups if key not in chosen]
    said = (f"{title} was chosen; {list_names(others)} lies beside it and was not read",) if others else ()
    return chosen, said


def _choose_largest(
    folder: Path, groups: dict[str, list[str]], said: tuple[str, ...], listed: Mapping[str, int] | None
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Of one model in several quantisations, told by the names, the largest; else all of them."""
    if len({_QUANTISATION.sub("", key) for key in groups}) > 1:
        return groups, said

    def size(key: str) -> int:
        if listed is not None:
            return sum(listed[name] for name in groups[key])
        return sum((folder / name).stat().st_size for name in groups[key] if (folder / name).exists())

    largest = max(groups, key=lambda key: (size(key), key))
    others = [key for key in groups if key != largest]
    note = f"{largest}, the largest, was chosen; {list_names(others)} lies beside it and was not read"
    return {largest: groups[largest]}, (*said, note)


def refuse_adapter(folder: Path, names: list[str]) -> None:
    """Raise ``IncompleteCheckpoint`` where there is an adapter: it is a change to a model, and the model is elsewhere."""
    adapters = [name for name in names if _ADAPTER.fullmatch(name)]
    if adapters:
        expected = "its base model too: named as BASE+ADAPTER, the two are read as the merged model"
        raise IncompleteCheckpoint(
            folder / adapters[0], at="file", found="an adapter (LoRA) without its base model", expected=expected
        )


def read_config(folder: Path, pool: FilePool, *, required: bool) -> Mapping[str, Any]:
    """The ``config.json`` of a folder; empty where there is none, unless the files have a hub's names, which promise one."""
    path = folder / "config.json"
    if not os.path.lexists(path):
        if required:
            expected = "config.json beside the weights; name the weight file itself to read it without one"
            raise IncompleteCheckpoint(folder, at="config.json", found="no such file", expected=expected)
        return {}
    check_inside(folder, path)
    size = pool.size(path)
    return parse_small_json(pool.read(path, 0, min(size, _LARGEST_CONFIG + 1)), path)


def _list_names(folder: Path) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(names) == _MOST_FILES:
                    raise CheckpointNotFound(
                        folder, at="folder", found=f"more than {_MOST_FILES} files", expected="a model's folder"
                    )
                if not entry.is_dir():
                    names.append(entry.name)
    except OSError as error:
        raise CheckpointNotFound(
            folder, at="folder", found=str(error.strerror or error), expected="a readable folder"
        ) from error
    return sorted(names)
