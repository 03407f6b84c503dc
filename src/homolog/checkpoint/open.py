"""Opens a checkpoint, whatever it is: `open_checkpoint` is all that later stages need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from homolog.checkpoint.base import Checkpoint, Meter
from homolog.checkpoint.extent import Extent
from homolog.checkpoint.folder import Choice, choose_files, read_config, refuse_adapter
from homolog.checkpoint.formats import read_contents
from homolog.checkpoint.gguf.facts import check_pieces, read_facts, read_tokens
from homolog.checkpoint.gguf.undo import undo_conversion
from homolog.checkpoint.ranged import Contents, RangedCheckpoint
from homolog.checkpoint.shards import check_inside, count_shards, join_shards, read_index
from homolog.checkpoint.source import FilePool, FileSource
from homolog.errors import CheckpointNotFound, IncompleteCheckpoint

__all__ = ["open_checkpoint"]


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a weight file (safetensors, GGUF or torch, told by its content) or a model's folder; only headers are read.

    Raises a ``CheckpointError`` of the kind that fits where the path, or what lies there, cannot be read as one model.
    """
    given = Path(path)
    pool, meter = FilePool(), Meter()
    try:
        return _open_folder(given, pool, meter) if _is_folder(given) else _open_file(given, pool, meter)
    except BaseException:
        pool.close()
        raise


def _is_folder(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        found = "no such file or folder" if isinstance(error, FileNotFoundError) else str(error)
        raise CheckpointNotFound(path, at="path", found=found, expected="a weight file or a model's folder") from error
    return path.is_dir()


def _open_file(path: Path, pool: FilePool, meter: Meter) -> Checkpoint:
    folder = path.parent
    if path.name.endswith(".index.json"):
        choice = Choice(path, (), False, ())
    else:
        refuse_adapter(folder, [path.name])
        pieces = count_shards(path.name)
        notes = (f"this is one of {pieces} pieces of a model; name the folder to read them all",) if pieces > 1 else ()
        choice = Choice(None, (path,), False, notes)
    return _open_choice(path, folder, choice, pool, meter)


def _open_folder(path: Path, pool: FilePool, meter: Meter) -> Checkpoint:
    choice = choose_files(path)
    for file in (*choice.files, *((choice.index,) if choice.index else ())):
        check_inside(path, file)
    return _open_choice(path, path, choice, pool, meter)


def _open_choice(path: Path, folder: Path, choice: Choice, pool: FilePool, meter: Meter) -> Checkpoint:
    files, weight_map = choice.files, None
    if choice.index is not None:
        weight_map = read_index(FileSource(choice.index, pool, meter))
        files = tuple(folder / name for name in sorted(set(weight_map.values())))
        _check_shards(folder, files, choice.index)
    pieces: list[Contents] = []
    notes = list(choice.notes)

    def read_shard(file: Path) -> Mapping[str, Extent]:
        contents = read_contents(FileSource(file, pool, meter))
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
        return RangedCheckpoint(path, contents, files=files, folder=folder, config=config, pool=pool, meter=meter)
    metadata = contents.metadata
    check_pieces(files, [piece.metadata for piece in pieces], len(extents))
    facts, tokens = read_facts(metadata), read_tokens(metadata)
    inner = RangedCheckpoint(
        path, contents, files=files, folder=folder, config=facts, pool=pool, meter=meter, tokenizer=tokens
    )
    return undo_conversion(inner, metadata)


def _check_shards(folder: Path, files: tuple[Path, ...], index: Path) -> None:
    for file in files:
        if not os.path.lexists(file):
            raise IncompleteCheckpoint(
                index, at="weight_map", found=f"no file {file.name} in the folder", expected="every shard there"
            )
        check_inside(folder, file)
