"""A sketch in the place of a checkpoint: `open_model` opens either, and the two sides of a comparison are brought to one form."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from homolog.checkpoint.base import Array, Checkpoint, Meter
from homolog.checkpoint.open import open_checkpoint
from homolog.checkpoint.session import Session
from homolog.checkpoint.source import FilePool, FileSource
from homolog.errors import UnsupportedFormat
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy
from homolog.sketch.anchors import Anchors
from homolog.sketch.container import looks_like_sketch
from homolog.sketch.kept_tokens import join_tokens
from homolog.sketch.make import sketch_checkpoint
from homolog.sketch.sketch import Sketch
from homolog.sketch.storage import decode_sketch
from homolog.sketch.stored import Stored
from homolog.sketch.stream import Progress

__all__ = ["SUFFIX", "SketchFile", "anatomy_of", "is_sketch", "open_model", "read_pair"]

SUFFIX = ".hsk"


class SketchFile(Checkpoint):
    """An opened sketch. It holds no tensors: there is nothing to read but what was kept."""

    def __init__(self, path: Path, stored: Stored, meter: Meter) -> None:
        self.path, self.stored, self.meter = path, stored, meter
        self.format = "sketch"
        self.tensors, self.config = {}, {}
        self.files, self.folder = (path,), None
        self.notes = (f"a sketch, made by homolog {stored.homolog} from {stored.source.format}", *stored.source.notes)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors of the model that the sketch is of."""
        return self.stored.source.nbytes

    @property
    def parameters(self) -> int:
        """Numbers of the model that the sketch is of."""
        return self.stored.source.parameters

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Raises ``UnsupportedFormat``: see the class."""
        raise self._refuse(name)

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """Raises ``UnsupportedFormat``: see the class."""
        raise self._refuse(name)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Raises ``UnsupportedFormat``: see the class."""
        raise self._refuse(name)

    def close(self) -> None:
        """Nothing is open."""

    def _refuse(self, name: str) -> UnsupportedFormat:
        return UnsupportedFormat(self.path, at=f"tensor {name}", found="a sketch", expected="the weights themselves")


def is_sketch(path: str | os.PathLike[str]) -> bool:
    """Whether there is a sketch, by its name or by its first bytes."""
    file = Path(path)
    if not file.is_file():
        return False
    if file.suffix == SUFFIX:
        return True
    try:
        with file.open("rb") as stream:
            return looks_like_sketch(stream.read(64))
    except OSError:
        return False


def open_model(path: str | os.PathLike[str], session: Session | None = None) -> Checkpoint:
    """Open a sketch, or whatever `open_checkpoint` opens, and raise as it does."""
    if not is_sketch(path):
        return open_checkpoint(path, session)
    meter, pool = Meter(), FilePool()
    try:
        return SketchFile(Path(path), decode_sketch(FileSource(Path(path), pool, meter)), meter)
    finally:
        pool.close()


def anatomy_of(model: Checkpoint) -> Anatomy:
    """Of a sketch the anatomy that it was made with."""
    return model.stored.anatomy if isinstance(model, SketchFile) else resolve(model)


def read_pair(
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    progress: Progress,
    announce: Callable[[str], None] = lambda text: None,
) -> tuple[Sketch, Sketch, Anchors]:
    """Two models of which at least one is a sketch, in one form: a checkpoint is sketched as the other side was.

    Also returns the token rows that they share. ``announce`` is called with what is about to be fetched of a checkpoint, in words.
    Raises what reading raises.
    """
    given = next(model.stored for model in models if isinstance(model, SketchFile))

    def bring(name: str, model: Checkpoint, anatomy: Anatomy) -> Stored:
        if isinstance(model, SketchFile):
            return model.stored
        return sketch_checkpoint(
            model, anatomy, given.options, progress, like=given, announce=lambda text: announce(f"{name}: {text}")
        )

    sides = [bring(name, model, anatomy) for name, model, anatomy in zip("AB", models, anatomies, strict=True)]
    shared = join_tokens(sides[0].tokens, sides[1].tokens)
    a, b = (
        side.condensed.unfold(side.anatomy, shared.ordinary[place], shared.untrained[place])
        for place, side in enumerate(sides)
    )
    a, b = (_warn(sketch, model) for sketch, model in zip((a, b), models, strict=True))
    return a, b, shared.anchors


def _warn(sketch: Sketch, model: Checkpoint) -> Sketch:
    """The sketch with a warning of what it cannot show, if it came out of a file."""
    if not isinstance(model, SketchFile):
        return sketch
    said = f"this is a sketch, not the weights: {'; '.join(model.stored.limits)}"
    return replace(sketch, warnings=(said, *sketch.warnings))
