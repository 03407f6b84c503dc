"""Models in several files: the index that says which tensor lies where, and the bounds of the folder that it may name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from homolog.checkpoint.extent import Extent
from homolog.checkpoint.jsontext import STRING, Scanner
from homolog.checkpoint.source import Source
from homolog.checkpoint.wording import list_names
from homolog.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint

__all__ = ["check_inside", "count_shards", "group_shards", "join_shards", "read_index"]

_LARGEST_INDEX = 64 << 20
_MOST_ENTRIES = 300_000
_LONGEST_NAME = 1000
_MOST_SHARDS = 1000
_ENTRY = re.compile(rb"[ \t\r\n]*+" + STRING + rb"[ \t\r\n]*+:[ \t\r\n]*+" + STRING + rb"[ \t\r\n]*+([,}])")
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})(?P<suffix>\.\w+)")


def read_index(source: Source) -> dict[str, str]:
    """The index's ``weight_map``: tensor to file name, each a plain name without a path.

    Raises ``UnsafeCheckpoint`` for a name that leads out of the folder and ``MalformedCheckpoint`` for a broken index.
    """
    if source.size > _LARGEST_INDEX:
        found = f"{source.size} bytes"
        raise MalformedCheckpoint(source.path, at="index", found=found, expected=f"at most {_LARGEST_INDEX} bytes")
    scanner = Scanner(source.read(0, source.size), source.path, "index")
    weight_map: dict[str, str] = {}
    scanner.expect(b"{", "to open the index")
    more = not scanner.accept(b"}")
    while more:
        key = scanner.key("a key of the index", _LONGEST_NAME)
        if key != "weight_map":
            scanner.skip_value(f"the value of {key!r}, of a few thousand values at most")
        elif weight_map:
            raise scanner.fail("a second weight_map", "one")
        else:
            weight_map = _read_weight_map(scanner, source.path)
        more = not scanner.accept(b"}")
        if more:
            scanner.expect(b",", "or '}' after a value")
    scanner.finish()
    if not weight_map:
        raise MalformedCheckpoint(
            source.path, at="index", found="no weight_map", expected="a weight_map of tensors to files"
        )
    return weight_map


def _read_weight_map(scanner: Scanner, path: Path) -> dict[str, str]:
    weight_map: dict[str, str] = {}
    files: dict[bytes, str] = {}
    scanner.expect(b"{", "to open the weight_map")
    closed = scanner.accept(b"}")
    while not closed:
        match = scanner.take(_ENTRY, "a tensor's name and a file's name")
        name, file = scanner.decode(match[1], "a tensor's name", _LONGEST_NAME), files.get(match[2])
        if name in weight_map or len(weight_map) == _MOST_ENTRIES:
            raise scanner.fail(f"the tensor {name!r} twice, or too many", f"each tensor once, at most {_MOST_ENTRIES}")
        if file is None:
            file = scanner.decode(match[2], "a file's name", _LONGEST_NAME)
            if file in ("", ".", "..") or not file.isprintable() or re.search(r"[/\\:]", file):
                raise UnsafeCheckpoint(
                    path, at=f"weight_map of {name}", found=f"the file {file!r}", expected="a plain file name"
                )
            if len(files) == _MOST_SHARDS:
                raise scanner.fail(f"more than {_MOST_SHARDS} files", "fewer")
            files[match[2]] = file
        weight_map[name] = file
        closed = match[3] == b"}"
    return weight_map


def check_inside(folder: Path, file: Path) -> None:
    """A file of a folder must lie in it, links followed; the hub's cache links from ``models--…/snapshots/x`` to ``models--…/blobs``."""
    try:
        home, real = folder.resolve(), file.resolve()
    except (OSError, RuntimeError) as error:
        raise UnsafeCheckpoint(
            file, at="link", found="links that lead in a circle", expected="a file in the folder"
        ) from error
    roots = [home]
    for place in (folder.absolute(), home):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
            roots.append(place.parent.parent.resolve())
    if not any(real.is_relative_to(root) for root in roots):
        raise UnsafeCheckpoint(file, at="link", found=f"a link to {real}", expected=f"a file inside {home}")


def group_shards(names: Iterable[str]) -> dict[str, list[str]]:
    """File names by model: numbered pieces such as ``model-00001-of-00003.safetensors`` together, every other name alone."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        match = _NUMBERED.fullmatch(name)
        key = f"{match['stem']}-of-{match['count']}{match['suffix']}" if match else name
        groups.setdefault(key, []).append(name)
    return groups


def count_shards(name: str) -> int:
    """How many pieces the name of one says there are; 1 for a name without number."""
    match = _NUMBERED.fullmatch(name)
    return int(match["count"]) if match else 1


def join_shards(
    files: Iterable[Path],
    read_shard: Callable[[Path], Mapping[str, Extent]],
    weight_map: Mapping[str, str] | None,
    index: Path,
) -> tuple[dict[str, Extent], list[str]]:
    """The tensors of all shards, each from the shard that the index names, and notes; without an index, each from where it is.

    Raises ``IncompleteCheckpoint`` for a tensor that its shard does not hold, ``MalformedCheckpoint`` for one that two shards hold.
    """
    joined: dict[str, Extent] = {}
    unlisted: list[str] = []
    held = 0
    for file in files:
        extents = read_shard(file)
        held += len(extents)
        if held > _MOST_ENTRIES:
            raise MalformedCheckpoint(
                file, at="shard", found=f"{held} tensors so far", expected=f"at most {_MOST_ENTRIES} in all"
            )
        for name, extent in extents.items():
            listed = None if weight_map is None else weight_map.get(name)
            if listed is not None and listed != file.name:
                continue
            if name in joined:
                raise MalformedCheckpoint(
                    file, at=f"tensor {name}", found="a tensor of another shard too", expected="each once"
                )
            joined[name] = extent
            if weight_map is not None and listed is None:
                unlisted.append(name)
    for name, shard in (weight_map or {}).items():
        if name not in joined:
            raise IncompleteCheckpoint(
                index, at=f"weight_map of {name}", found=f"no such tensor in {shard}", expected="it there"
            )
    notes = [f"the shards hold tensors that the index does not list: {list_names(unlisted)}"] if unlisted else []
    return joined, notes
