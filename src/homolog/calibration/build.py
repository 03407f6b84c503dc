"""Building a bank, resumable: one line of JSON for every pair that was compared."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from homolog.bank.bank import Bank, BankModel
from homolog.bank.storage import save_bank
from homolog.calibration.statistics import STATISTICS
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import UsageError
from homolog.pipeline import compare
from homolog.roles.resolve import resolve
from homolog.verdict import RELATED
from homolog.version import __version__

__all__ = ["ACROSS", "WITHIN", "build_bank", "describe_model", "plan_pairs"]

WITHIN, ACROSS = 6, 5
"""How many of the models that follow it in its group a model is compared with, and pairs between every two groups."""

Progress = Callable[[str, int, int], None]
Values = Mapping[str, float | None]
_Key = tuple[str, str]
"""The digests of two models, the smaller first."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A model of the bank, and where its weights are; ``None`` for a model that an extended bank holds already."""

    model: BankModel
    path: Path | None


def build_bank(
    folders: Sequence[Path],
    out: Path,
    *,
    extend: Bank | None = None,
    seed: int = 0,
    across: int = ACROSS,
    progress: Progress = lambda *_: None,
) -> Bank:
    """Compare independent models with each other, and write what was measured as a bank to ``out``.

    ``folders`` are models that the caller knows to be independent: no two of them, and none of those in ``extend``, share an ancestor or
    their first random numbers. Pairs are as `plan_pairs` says; the models of ``extend`` keep those they have, as their weights are not at
    hand. Finished pairs are kept in ``out`` + ``.pairs``, and a run that was stopped does not compare them again.

    Raises ``UsageError`` for fewer than two models, two of one name or with the same weights, a pair that turns out to be related, or an
    ``out`` that cannot be written; ``CheckpointError`` for a model that cannot be read.
    """
    members = _gather(folders, extend)
    pairs = [(members[i], members[j]) for i, j in plan_pairs([member.model for member in members], across)]
    waiting = [(a, b) for a, b in pairs if a.path and b.path]
    known = _pairs_of(extend)
    try:
        with _keep(out, seed, known) as keep:
            for done, (a, b) in enumerate(waiting):
                progress(f"{a.model.id} and {b.model.id}", done, len(waiting))
                if _key(a.model, b.model) not in known:
                    known[_key(a.model, b.model)] = keep(a.model, b.model, _measure(a, b, seed))
        bank = _assemble([member.model for member in members], known)
        save_bank(bank, out)
        _unfinished(out).unlink()
    except OSError as error:
        raise UsageError(f"{out}: the bank cannot be written there ({error.strerror or error})") from error
    progress("done", len(waiting), len(waiting))
    return bank


def describe_model(folder: Path) -> BankModel:
    """What the bank keeps of a model. A ``truth.json`` of the lab beside the weights says how it was made."""
    with open_checkpoint(folder) as model:
        anatomy = resolve(model)
        if anatomy.reason:
            raise UsageError(f"{folder}: the architecture is not recognised: {anatomy.reason}")
        sha = hashlib.sha256()
        for file in model.files:
            with file.open("rb") as stream:
                sha.update(hashlib.file_digest(stream, "sha256").digest())
        dims = anatomy.dims
        recipe = _read_recipe(folder)
        shape = f"{anatomy.architecture} {dims.layers}x{dims.width}, {dims.ffn} units"
        return BankModel(
            id=folder.name,
            group=recipe.get("group", shape),
            architecture=anatomy.architecture,
            parameters=model.parameters,
            layers=dims.layers,
            width=dims.width,
            units=dims.ffn,
            digest=sha.hexdigest(),
            recipe=recipe.get("recipe", "named by the user"),
            teacher=recipe.get("teacher", ""),
        )


def plan_pairs(models: Sequence[BankModel], across: int = ACROSS) -> list[tuple[int, int]]:
    """Pairs of positions, the smaller first.

    Within a group every model meets the `WITHIN` that follow it, the first coming after the last, which is all of them in a group of up
    to thirteen; between groups the first meets the first, the second the second, ``across`` times; and every student its teacher.
    """
    groups: dict[str, list[int]] = {}
    for place, model in enumerate(models):
        groups.setdefault(model.group, []).append(place)
    pairs = []
    for members in groups.values():
        for step in range(1, min(WITHIN, len(members) - 1) + 1):
            pairs += [_ascending(a, members[(i + step) % len(members)]) for i, a in enumerate(members)]
    for first, second in combinations(groups.values(), 2):
        pairs += [_ascending(a, b) for a, b in zip(first[:across], second[:across], strict=False)]
    places = {model.id: place for place, model in enumerate(models)}
    for place, model in enumerate(models):
        if model.teacher in places:
            pairs.append(_ascending(place, places[model.teacher]))
    return sorted(set(pairs))


def _ascending(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _gather(folders: Sequence[Path], extend: Bank | None) -> list[_Member]:
    new = [_Member(describe_model(folder), folder) for folder in folders]
    old = [_Member(model, None) for model in extend.models] if extend else []
    given = {member.model.digest for member in new}
    members = sorted([*new, *(m for m in old if m.model.digest not in given)], key=lambda member: member.model.id)
    for what in ("id", "digest"):
        seen: dict[str, str] = {}
        for member in members:
            value = getattr(member.model, what)
            if value in seen:
                raise UsageError(
                    f"{member.model.id} and {seen[value]} have the same {what}: a bank counts every model once"
                )
            seen[value] = member.model.id
    if len(members) < 2:
        raise UsageError(f"a bank needs at least two independent models, {len(members)} given")
    return members


def _measure(a: _Member, b: _Member, seed: int) -> Values:
    assert a.path is not None
    assert b.path is not None
    comparison = compare(a.path, b.path, seed=seed, deep=True)
    p = comparison.verdict.log10_p
    if comparison.verdict.verdict == "identical" or (p is not None and p <= RELATED):
        found = f"{comparison.verdict.verdict} (log10 p {p})"
        raise UsageError(
            f"{a.path} and {b.path}: found {found}, expected two models trained independently of each other"
        )
    values = {name: statistic.read(comparison) for name, statistic in STATISTICS.items()}
    return {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}


def _assemble(models: Sequence[BankModel], known: Mapping[_Key, Values]) -> Bank:
    places = {model.digest: place for place, model in enumerate(models)}
    here = {key: values for key, values in known.items() if places.keys() >= set(key)}
    measured = {_ascending(places[a], places[b]): values for (a, b), values in here.items()}
    pairs = sorted(measured)
    columns = {
        name: np.array([math.nan if (v := measured[pair].get(name)) is None else v for pair in pairs])
        for name in STATISTICS
    }
    texts = {name: statistic.text for name, statistic in STATISTICS.items()}
    return Bank(tuple(models), np.array(pairs, dtype=np.intp).reshape(-1, 2), columns, texts)


def _key(a: BankModel, b: BankModel) -> _Key:
    first, second = sorted((a.digest, b.digest))
    return first, second


def _pairs_of(bank: Bank | None) -> dict[_Key, Values]:
    if bank is None:
        return {}
    columns = {name: bank.statistics[name] for name in STATISTICS if name in bank.statistics}
    return {
        _key(bank.models[i], bank.models[j]): {name: float(column[row]) for name, column in columns.items()}
        for row, (i, j) in enumerate(bank.pairs.tolist())
    }


def _unfinished(out: Path) -> Path:
    return out.with_name(out.name + ".pairs")


@contextmanager
def _keep(
    out: Path, seed: int, known: dict[_Key, Values]
) -> Iterator[Callable[[BankModel, BankModel, Values], Values]]:
    """Fill ``known`` with the pairs that a stopped run left, and give a function that keeps one more."""
    path, made_by = _unfinished(out), [__version__, seed, sorted(STATISTICS)]
    for entry in _read_lines(path):
        if entry.get("made_by") == made_by:
            known[entry["pair"][0], entry["pair"][1]] = entry["values"]
    with path.open("a", encoding="utf-8") as file:

        def keep(a: BankModel, b: BankModel, values: Values) -> Values:
            # one write of one line: a kill leaves at most one torn line, which the next run skips
            file.write(json.dumps({"made_by": made_by, "pair": _key(a, b), "values": values}) + "\n")
            file.flush()
            return values

        yield keep


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"made_by", "pair", "values"} <= entry.keys():
            yield entry


def _read_recipe(folder: Path) -> dict[str, str]:
    """How a lab model was made, from its truth record; empty for other models."""
    try:
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        made = {key: truth[key] for key in ("seed", "std", "shape", "data", "recipe")}
        sha = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
        return {
            "group": re.sub(r"-\d+$", "", str(truth["name"])),
            "recipe": f"lab {truth['name']}, seed {truth['seed']}, digest {sha}",
            "teacher": str(truth["recipe"].get("teacher", "")),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
