"""Running methods over pairs: resumable, one line of JSON for every finished score."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from homolog.arena.cases import Case, Pair, open_case, sample_pairs
from homolog.arena.methods.base import Method, MethodScore, Model
from homolog.arena.methods.catalogue import choose_methods
from homolog.arena.zoo import Zoo
from homolog.errors import UsageError
from homolog.lab.merges import apply_merge
from homolog.lab.operations import OPERATIONS
from homolog.lab.parts import list_ffns
from homolog.lab.shape import initialise
from homolog.provenance import round_floats
from homolog.version import __version__

__all__ = ["RESULTS", "Result", "code_digest", "run_arena"]

RESULTS = "results.jsonl"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Result:
    """One score: what a method said of a pair, with the truth about it."""

    a: str
    b: str
    label: str
    operation: str
    lineages: tuple[str, ...]
    held_out: bool
    derived: bool
    """Whether B, or A, was made by a recipe rather than trained."""
    method: str
    score: MethodScore

    def to_json(self) -> dict[str, Any]:
        """Flat, floats to six digits."""
        flat = {key: value for key, value in asdict(self).items() if key != "score"}
        document = round_floats({**flat, **asdict(self.score)})
        assert isinstance(document, dict)
        return document


def run_arena(
    zoo: Zoo,
    pairs: Sequence[Pair],
    methods: Sequence[Method],
    out: Path,
    progress: Progress = lambda *_: None,
    *,
    jobs: int = 1,
) -> list[Result]:
    """Score every pair with every method, and return the results in the order of ``pairs``.

    With several ``jobs`` as many processes share the work; they know the methods of the catalogue only.

    Finished scores are kept in ``out/results.jsonl`` as they come, and not computed again as long as the models, the recipe and the code
    of the method are the same; those of programs that were not installed and of methods that failed are tried again. Raises
    ``UsageError`` where ``out`` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        kept = _read_kept(out / RESULTS)
        with (out / RESULTS).open("a", encoding="utf-8") as file:
            for key, result in _score_missing(zoo, pairs, methods, kept, progress, jobs):
                # one write of one line: a kill leaves at most one torn line, which the next run skips
                file.write(json.dumps({"key": key, **result.to_json()}, allow_nan=False) + "\n")
                file.flush()
                kept[key] = _from_json(result.to_json())
    except OSError as error:
        raise UsageError(f"{out}: the results cannot be written there ({error.strerror or error})") from error
    asked = _choose_asked(pairs, methods)
    wanted = [(_key(zoo, pair, method), pair) for pair in pairs for method in asked[pair.name]]
    return [
        replace(kept[key], label=pair.label, operation=pair.operation, held_out=pair.held_out) for key, pair in wanted
    ]


def _score_missing(
    zoo: Zoo,
    pairs: Sequence[Pair],
    methods: Sequence[Method],
    kept: dict[str, Result],
    progress: Progress,
    jobs: int,
) -> Iterator[tuple[str, Result]]:
    asked = _choose_asked(pairs, methods)
    missing = {pair.name: [m for m in asked[pair.name] if _key(zoo, pair, m) not in kept] for pair in pairs}
    waiting = [pair for pair in pairs if missing[pair.name]]
    # a derived model is made once for its neighbours
    groups = [list(group) for _, group in groupby(waiting, key=lambda pair: pair.b)]
    done, total = len(pairs) - len(waiting), len(pairs)
    if jobs == 1:
        for group in groups:
            for pair, scores in _score_group(zoo, group, missing):
                progress(f"{pair.operation}: {pair.name}", done, total)
                yield from scores
                done += 1
    else:
        names = [{pair.name: [m.name for m in missing[pair.name]] for pair in group} for group in groups]
        with ProcessPoolExecutor(jobs) as pool:
            for future in as_completed(
                pool.submit(_score_in_process, zoo, *task) for task in zip(groups, names, strict=True)
            ):
                for pair, scores in future.result():
                    progress(f"{pair.operation}: {pair.name}", done, total)
                    yield from scores
                    done += 1
    progress("done", total, total)


def _choose_asked(pairs: Sequence[Pair], methods: Sequence[Method]) -> dict[str, list[Method]]:
    """The methods that each pair is put to."""
    asked: dict[str, list[Method]] = {pair.name: [] for pair in pairs}
    for method in methods:
        for pair in pairs if method.most is None else sample_pairs(pairs, method.most):
            asked[pair.name].append(method)
    return asked


_Scores = list[tuple[str, Result]]


def _score_in_process(
    zoo: Zoo, group: Sequence[Pair], names: Mapping[str, Sequence[str]]
) -> list[tuple[Pair, _Scores]]:
    """What crosses into another process are names: not every method can be sent."""
    return list(_score_group(zoo, group, {pair: choose_methods(wanted) for pair, wanted in names.items()}))


def _score_group(
    zoo: Zoo, group: Sequence[Pair], methods: Mapping[str, Sequence[Method]]
) -> Iterator[tuple[Pair, _Scores]]:
    """Pairs with one B."""
    with ExitStack() as stack:
        b = _open(stack, group[0].b, zoo)
        for pair in group:
            with ExitStack() as inner:
                a = _open(inner, pair.a, zoo)
                yield (
                    pair,
                    [
                        (_key(zoo, pair, method), _describe(pair, method.name, _measure(method, a, b)))
                        for method in methods[pair.name]
                    ],
                )


def _open(stack: ExitStack, case: Case, zoo: Zoo) -> Model:
    return stack.enter_context(Model(stack.enter_context(open_case(case, zoo))))


def _measure(method: Method, a: Model, b: Model) -> MethodScore:
    """The score with its cost; memory is what the process held at most beyond what it held before."""
    before = _reset_peak()
    began = time.perf_counter()
    score = method.score(a, b)
    seconds = time.perf_counter() - began if score.seconds is None else score.seconds
    peak = score.peak_bytes
    if peak is None and before is not None:
        peak = max(0, (_resident("VmHWM") or 0) - before)
    return score if score.value is None else replace(score, seconds=seconds, peak_bytes=peak)


def _reset_peak() -> int | None:
    """Let the peak of this process start anew, and say what it holds now; ``None`` where the system does not do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _resident("VmRSS")


def _resident(field: str) -> int | None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    _, found, rest = status.partition(f"{field}:")
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else None


def _describe(pair: Pair, method: str, score: MethodScore) -> Result:
    derived = not (pair.a.is_trained and pair.b.is_trained)
    return Result(
        pair.a.name, pair.b.name, pair.label, pair.operation, pair.lineages, pair.held_out, derived, method, score
    )


def _key(zoo: Zoo, pair: Pair, method: Method) -> str:
    return f"{method.name} {pair.digest(zoo)} {pair.operation} {code_digest((*method.code, *_making(pair)))}"


def _making(pair: Pair) -> tuple[str, ...]:
    """The parts of the package that make a pair's derived models, if it has any."""
    cases = [case for case in (pair.a, pair.b) if not case.is_trained]
    modules = {OPERATIONS[step["kind"]].__module__ for case in cases for step in case.steps}
    modules |= {apply_merge.__module__ for case in cases if case.merge is not None}
    modules |= {list_ffns.__module__, initialise.__module__} if cases else set()
    return tuple(sorted(f"{'/'.join(module.split('.')[1:])}.py" for module in modules))


@cache
def code_digest(parts: tuple[str, ...]) -> str:
    """Changes whenever a source file of these parts of the package does."""
    sha = hashlib.sha256(__version__.encode())
    root = Path(str(files("homolog")))
    for part in parts:
        for path in sorted((root / part).rglob("*")) if (root / part).is_dir() else [root / part]:
            if path.suffix in (".py", ".toml", ".json"):
                sha.update(path.read_bytes())
    return sha.hexdigest()[:8]


def _read_kept(path: Path) -> dict[str, Result]:
    kept: dict[str, Result] = {}
    if not path.exists():
        return kept
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        try:
            document = json.loads(line)
            key = document.pop("key")
            result = _from_json(document)
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill: that score is computed again
        if not result.score.retry:
            kept[key] = result
    if text and not text.endswith("\n"):
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        partial.replace(path)
    return kept


def _from_json(document: dict[str, Any]) -> Result:
    fields = MethodScore.__dataclass_fields__.keys()
    score = MethodScore(**{key: document[key] for key in fields})
    rest = {key: value for key, value in document.items() if key not in fields}
    return Result(**{**rest, "lineages": tuple(rest["lineages"])}, score=score)
