"""Making a sketch of a checkpoint, and writing it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.checkpoint.session import Session
from homolog.errors import UnsupportedFormat, UsageError
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy
from homolog.sketch.condensed import EXPERTS, condense
from homolog.sketch.digests import ResumeFile, digest_tensors, fold_digests
from homolog.sketch.kept_tokens import KeptTokens, choose_tokens
from homolog.sketch.plan import SMALL, ReadingPlan
from homolog.sketch.projection import Projection
from homolog.sketch.storage import decode_sketch, encode_sketch
from homolog.sketch.stored import SketchOptions, Source, Stored
from homolog.sketch.stream import Progress, read_sketch
from homolog.sketch.token_table import vocabulary_of
from homolog.version import __version__

if TYPE_CHECKING:
    from homolog.checkpoint.remote import FetchPlan

__all__ = ["digest_read", "make_sketch", "sketch_checkpoint"]

_SIDE_FILES = ("config.json", "tokenizer.json", "vocab.json", "vocab.txt")
_LARGEST_SIDE_FILE = 100 * 2**20
_UNITS_OF_SMALL = 256
_MOST_BLOCKS = 128
_MOST_ROWS = 65_536
_WIDEST_RATIO = 4


def make_sketch(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    full: bool = False,
    seed: int = 0,
    units: int = 64,
    dimensions: int = 96,
    force: bool = False,
    budget: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Stored:
    """Write a sketch of ``model`` to ``out``: what a comparison needs of it, in a few hundred kilobytes to two megabytes.

    ``full`` adds a digest of every tensor: the whole model is read once, and a run that was stopped goes on where it stopped (see
    ``<out>.partial``). ``seed``, ``units`` and ``dimensions`` settle which rows are kept and how they are projected: two sketches can
    be compared in full if these are the same, so leave them unless both sides agree on others. The file appears whole or not at all;
    one that exists is left alone unless ``force``. The same model and options give the same bytes. Of a model that lies elsewhere
    ``budget`` bytes may be fetched, none if ``offline``; ``announce`` is called with what is about to be fetched, in words.

    Raises CheckpointError for a model that cannot be read or whose architecture is not known, UsageError for options out of range and
    for an output that cannot be written.
    """
    options = _check(SketchOptions(seed, units, dimensions))
    if budget is not None and budget < 0:
        raise UsageError(f"budget is {budget}; it must be at least 0")
    target = Path(out)
    _check_target(target, force=force)
    progress, announce = progress or _silent, announce or _unheard
    with open_checkpoint(model, Session(budget=budget, offline=offline)) as checkpoint:
        anatomy = resolve(checkpoint)
        _refuse_unresolved(checkpoint, anatomy)
        remote = checkpoint.meter.remote
        if full and remote is not None:
            remote.require_all(partial(_announce, checkpoint, announce))
        stored = sketch_checkpoint(checkpoint, anatomy, options, progress, announce=_unheard if full else announce)
        resume = None
        if full:
            resume = ResumeFile(target.with_name(f"{target.name}.partial"), _bind(checkpoint, stored))
            tensors = digest_tensors(checkpoint, anatomy, resume, progress)
            stored = stored.with_tensors(tensors, fold_digests(tensors))
    body = encode_sketch(stored)
    _write(target, body, force=force)
    if resume is not None:
        resume.remove()
    _sweep(target)
    return decode_sketch(BytesSource(body, target))


def sketch_checkpoint(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    options: SketchOptions,
    progress: Progress,
    *,
    like: Stored | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> Stored:
    """The sketch of an open checkpoint whose architecture is known; with ``like``, as fits a comparison with that sketch.

    Then the token rows are those of the other sketch, and more units are read of the wider FFN. ``announce`` is called with what is
    about to be fetched, in words, if the checkpoint lies elsewhere.
    """
    remote = checkpoint.meter.remote
    if remote is not None:
        remote.bring_sides()
    tokens = choose_tokens(vocabulary_of(checkpoint), anatomy.dims.vocab, like.tokens if like else None)
    plan = _plan(checkpoint, anatomy, options, like)
    read = partial(read_sketch, checkpoint, anatomy, plan, tokens.ids.tolist(), tokens.untrained_ids.tolist())
    with np.errstate(all="ignore"):  # NaN and Inf of a broken checkpoint are kept as flaws, not as warnings
        if remote is not None:
            remote.prepare(
                partial(read, _silent), partial(_announce, checkpoint, announce), partial(progress, "fetching")
            )
        sketch = read(progress)
        rows = sum(len(block.up) for block in sketch.units)
        if rows > _MOST_ROWS:
            raise UsageError(
                f"{rows} units in all; a sketch holds at most {_MOST_ROWS}: ask for fewer than {options.units}"
            )
        condensed = condense(sketch, Projection(options.seed, options.dimensions))
    return Stored(__version__, options, _describe(checkpoint, anatomy, tokens), anatomy, tokens, condensed)


def digest_read(checkpoint: Checkpoint) -> str:
    """SHA-256 of the list of tensors and of every range that was read of them, headers included."""
    listed = hashlib.sha256()
    for info in checkpoint.tensors.values():
        listed.update(f"{info.name}\0{info.dtype}\0{info.shape}\0".encode("utf-8", "surrogatepass"))
    listed.update(checkpoint.meter.hexdigest().encode())
    return f"sha256:{listed.hexdigest()}"


class BytesSource:
    """A file that is in memory already."""

    def __init__(self, body: bytes, path: Path) -> None:
        self._body = body
        self.path = path

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._body)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes ``offset:offset + length``."""
        return self._body[offset : offset + length]


def _plan(checkpoint: Checkpoint, anatomy: Anatomy, options: SketchOptions, like: Stored | None) -> ReadingPlan:
    """Whole rows, however units are stored: two layouts of one model have one sketch."""
    small = checkpoint.nbytes <= SMALL
    units = max(options.units, _UNITS_OF_SMALL) if small else options.units
    if like is not None:
        ratio = max(anatomy.dims.ffn, 1) / max(like.anatomy.dims.ffn, 1)
        units = int(np.ceil(units * min(max(ratio, 1.0), _WIDEST_RATIO)))
    experts = max(1, _MOST_BLOCKS // max(anatomy.dims.layers, 1))
    return ReadingPlan(
        units=units, experts=experts, slab=None, whole=small, hold=small, routed=None if small else EXPERTS
    )


def _describe(checkpoint: Checkpoint, anatomy: Anatomy, tokens: KeptTokens) -> Source:
    dtypes: Counter[str] = Counter()
    for info in checkpoint.tensors.values():
        dtypes[info.dtype] += info.size
    sizes = checkpoint.meter.sizes
    files = tuple((file.name, sizes.get(file, 0)) for file in checkpoint.files)
    return Source(
        format=checkpoint.format,
        parameters=checkpoint.parameters,
        tensors=len(checkpoint.tensors),
        nbytes=checkpoint.nbytes,
        dtypes=dict(sorted(dtypes.items())),
        files=files,
        digest=digest_read(checkpoint),
        full_digest=None,
        side_files=dict(_digest_side_files(checkpoint, tokens)),
        read_bytes=checkpoint.meter.bytes,
        of_bytes=sum(size for _, size in files),
        requests=checkpoint.meter.requests,
        notes=anatomy.notes,
    )


def _digest_side_files(checkpoint: Checkpoint, tokens: KeptTokens) -> Iterator[tuple[str, str]]:
    for name in _SIDE_FILES:
        file = checkpoint.folder / name if checkpoint.folder else None
        wanted = (name == "config.json" and checkpoint.config) or name == tokens.source
        if wanted and file is not None and file.is_file() and file.stat().st_size <= _LARGEST_SIDE_FILE:
            yield name, f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def _bind(checkpoint: Checkpoint, stored: Stored) -> str:
    """What the digests of a stopped run are of: other bytes, sizes or times of the files, and they do not count."""
    bound = hashlib.sha256(f"{stored.source.digest}\0{stored.source.files}".encode())
    if checkpoint.meter.remote is not None:
        bound.update(f"\0{checkpoint.meter.remote.version}".encode())
    for file in checkpoint.files:
        if os.path.lexists(file):
            bound.update(f"\0{file.stat().st_mtime_ns}".encode())
    return bound.hexdigest()


def _announce(checkpoint: Checkpoint, announce: Callable[[str], None], plan: FetchPlan) -> None:
    of = sum(checkpoint.meter.sizes[file] for file in checkpoint.files)
    announce(plan.describe(checkpoint.path, of))


def _refuse_unresolved(checkpoint: Checkpoint, anatomy: Anatomy) -> None:
    expected = "a model whose parts homolog knows: there is nothing to keep of another"
    if anatomy.reason:
        raise UnsupportedFormat(checkpoint.path, at="architecture", found=anatomy.reason, expected=expected)
    if anatomy.missing:
        found = f"no {', '.join(anatomy.missing[:3])}"
        raise UnsupportedFormat(checkpoint.path, at="architecture", found=found, expected=expected)


def _check(options: SketchOptions) -> SketchOptions:
    if not (0 <= options.seed < 2**63 and 8 <= options.units < 2**31 and 8 <= options.dimensions <= 4096):
        raise UsageError(
            f"seed is {options.seed}, units is {options.units} and dimensions is {options.dimensions}; the seed must not be negative, "
            "units at least 8 and dimensions from 8 to 4096"
        )
    return options


def _check_target(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; name a file, for example {target / 'model.hsk'}")
    if os.path.lexists(target) and not force:
        raise UsageError(f"{target}: exists already; --force overwrites it")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: no such folder to write the sketch into")


def _write(target: Path, body: bytes, *, force: bool) -> None:
    fresh = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            fresh.write_bytes(body)
            _check_target(target, force=force)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written there ({error.strerror or error}); name another place"
        ) from error


def _sweep(target: Path) -> None:
    """Remove what killed runs were writing when they ended."""
    from homolog.checkpoint.cache import left_behind  # noqa: PLC0415 - who compares local files does not wait for it

    ours = re.compile(rf"\.{re.escape(target.name)}(?:\.partial\.(\d{{1,10}})|\.(\d{{1,10}})\.partial)")
    for path in target.parent.iterdir():
        match = ours.fullmatch(path.name)
        with suppress(OSError):
            if match is not None and left_behind(int(match[1] or match[2]), path.stat().st_mtime):
                path.unlink()


def _silent(_: str, __: int, ___: int) -> None:
    """No progress is shown."""


def _unheard(_: str) -> None:
    """Nothing is announced."""
