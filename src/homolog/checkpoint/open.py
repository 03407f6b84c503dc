"""Opens a checkpoint, whatever it is: `open_checkpoint` is all that later stages need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from homolog.checkpoint.adapters import open_adapter, split_address
from homolog.checkpoint.address import name_repository, parse_address
from homolog.checkpoint.base import Checkpoint, Meter
from homolog.checkpoint.extent import Extent
from homolog.checkpoint.folder import Choice, choose_file, choose_files, read_config
from homolog.checkpoint.formats import read_contents
from homolog.checkpoint.gguf.facts import check_pieces, describe_blocks, read_facts, read_tokens
from homolog.checkpoint.gguf.undo import undo_conversion
from homolog.checkpoint.merged import MergedCheckpoint
from homolog.checkpoint.place import FolderPlace, Place
from homolog.checkpoint.quant.detect import decode_quantised
from homolog.checkpoint.ranged import Contents, RangedCheckpoint
from homolog.checkpoint.session import Session
from homolog.checkpoint.shards import check_inside, join_shards, read_index
from homolog.errors import CheckpointNotFound

__all__ = ["open_checkpoint"]


def open_checkpoint(path: str | os.PathLike[str], session: Session | None = None) -> Checkpoint:
    """Open a weight file (safetensors, GGUF or torch, told by its content), a model's folder, or an address; only headers are read.

    An address is a repository of a hub (``org/name[@revision]``, ``modelscope://…``), ``http(s)://``, ``s3://`` or ``gs://``. A path that
    exists here always wins over a repository of that name. ``session`` is what remote models of one run share: budget, cache, pace.
    ``BASE+ADAPTER``, the second a folder with a LoRA, is the base with the adapter merged into it.

    Raises a ``CheckpointError`` of the kind that fits where the path, or what lies there, cannot be read as one model.
    """
    pair = split_address(path)
    if pair is not None:
        return _open_merged(*pair, session)
    address = parse_address(path)
    if address is not None:
        from homolog.checkpoint.remote import find_remote  # noqa: PLC0415 - local files do not wait for the network's libraries

        return _open_choice(*find_remote(address, session or Session()))
    given = Path(path)
    meter = Meter()
    repository = name_repository(path)
    said = (
        (f"the path {repository} of this machine was read, not a hub's repository of that name",) if repository else ()
    )
    place = FolderPlace(given, given if _is_folder(given) else given.parent, meter, notes=said)
    try:
        choice = _choose_folder(given) if place.home == given else choose_file(given)
        return _open_choice(place, choice)
    except BaseException:
        place.pool.close()
        raise


def _open_merged(base: str, folder: Path, session: Session | None) -> Checkpoint:
    model = open_checkpoint(base, session)
    try:
        return MergedCheckpoint(model, open_adapter(folder, model.meter))
    except BaseException:
        model.close()
        raise


def _is_folder(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        found = "no such file or folder" if isinstance(error, FileNotFoundError) else str(error)
        raise CheckpointNotFound(path, at="path", found=found, expected="a weight file or a model's folder") from error
    return path.is_dir()


def _choose_folder(path: Path) -> Choice:
    choice = choose_files(path)
    for file in (*choice.files, *((choice.index,) if choice.index else ())):
        check_inside(path, file)
    return choice


def _open_choice(place: Place, choice: Choice) -> Checkpoint:
    path, folder, pool, meter = place.path, place.folder, place.pool, place.meter
    files, weight_map = choice.files, None
    if choice.index is not None:
        weight_map = read_index(place.source(choice.index))
        files = tuple(place.home / name for name in sorted(set(weight_map.values())))
        place.check_shards(files, choice.index)
    place.expect(files)
    pieces: list[Contents] = []
    notes = [*place.notes, *choice.notes]

    def read_shard(file: Path) -> Mapping[str, Extent]:
        contents = read_contents(place.source(file))
        pieces.append(contents)
        notes.extend(note for note in contents.notes if note not in notes)
        return contents.extents

    extents, said = join_shards(files, read_shard, weight_map, choice.index or path)
    formats = {piece.format for piece in pieces}
    if len(formats) > 1:
        said.append(f"the pieces are of several formats: {', '.join(sorted(formats))}")
    contents = Contents(pieces[0].format, extents, (*notes, *said), pieces[0].metadata)
    if formats != {"gguf"}:
        config = read_config(folder, pool, required=choice.hub)
        return decode_quantised(
            RangedCheckpoint(path, contents, files=files, folder=folder, config=config, pool=pool, meter=meter)
        )
    metadata = contents.metadata
    contents = replace(contents, notes=(*contents.notes, *describe_blocks(extents)))
    check_pieces(files, [piece.metadata for piece in pieces], len(extents))
    facts, tokens = read_facts(metadata), read_tokens(metadata)
    inner = RangedCheckpoint(
        path, contents, files=files, folder=folder, config=facts, pool=pool, meter=meter, tokenizer=tokens
    )
    return undo_conversion(inner, metadata)
