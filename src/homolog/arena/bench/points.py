"""One point of the bench: a base under one attack in one amount, what homolog says of it, and what it cost the attacker."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from homolog.arena.bench.attacks import ATTACKS, GROUPS, Attack, Target, hide, make_recipe, name_model
from homolog.arena.bench.train import find_targets
from homolog.arena.methods.ours import VERDICT
from homolog.arena.run import code_digest
from homolog.arena.zoo import Record, Zoo
from homolog.errors import UsageError
from homolog.lab.bpe import Tokenizer
from homolog.lab.corpus import load_corpus
from homolog.lab.loss import evaluate_streams
from homolog.lab.operations import apply_operation
from homolog.lab.shape import Shape, Weights
from homolog.lab.store import load_model, load_truth, round_weights, save_weights
from homolog.pipeline import compare
from homolog.provenance import round_floats

__all__ = ["HIDDEN", "PLAIN", "RESULTS", "Point", "measure_points"]

PLAIN, HIDDEN = "plain", "hidden"
"""The two faces of an attacked model: as it is, and after `hide`."""

RESULTS, LOSSES = "points.jsonl", "losses.jsonl"

_WINDOWS = 40
"""Of held-out text in each stream; every model is measured on the same, so that differences are sharper than losses."""
_MAKING = (
    *(
        f"lab/{name}"
        for name in ("operations", "decoys.py", "disguises.py", "widening.py", "merges.py", "parts.py", "loss.py")
    ),
)
"""What makes the models; what it is told to do is part of the key."""

_CODE = (*VERDICT.code, *_MAKING, "arena/bench/points.py", "bank")
_RELATED = ("identical", "related", "partly_related")


@dataclass(frozen=True, slots=True)
class Point:
    """What was done, what homolog says, and the price."""

    attack: str
    amount: float
    base: str
    held_out: bool
    face: str
    verdict: str
    tier: int | None
    log10_p: float | None
    """Of the headline, or conformal at Tier 2."""
    agreement: float | None
    """Of the bodies."""
    heads: float | None
    """Of attention, asked apart."""
    strangers: tuple[str, ...]
    """Independent bases that the same model was compared with."""
    accused: tuple[str, ...]
    """Those of them that homolog calls its kin."""
    tokens: float
    """Of the training that the attack took, as a share of the base's."""
    parameters: float
    """As a share of the base's."""
    loss: float | None
    """On held-out text in the mixture that the attack wants to be good at, nats per token; ``None`` where there is no text."""
    base_loss: float | None

    @property
    def found(self) -> bool:
        """Whether homolog finds the base in it."""
        return self.verdict in _RELATED

    @property
    def cleared(self) -> bool:
        """Whether homolog says that there is nothing."""
        return self.verdict == "independent"

    @property
    def price(self) -> float | None:
        """Loss beyond that of the base."""
        return None if self.loss is None or self.base_loss is None else self.loss - self.base_loss

    def to_json(self) -> dict[str, Any]:
        """Flat, floats to six digits."""
        document = round_floats(asdict(self))
        assert isinstance(document, dict)
        return document


Progress = Callable[[str, int, int], None]
_Task = tuple[Attack, Target, float]


class Bench:
    """What every point is measured with."""

    def __init__(self, zoo: Zoo, models: Path, out: Path, cache: Path | None) -> None:
        self.zoo, self.models, self.out, self.targets = zoo, models, out, find_targets(zoo)
        first = zoo.records[next(iter(self.targets))].folder
        self.held_out = {} if cache is None else _read_text(cache, Tokenizer.load(first))
        self._bases: dict[str, dict[str, float]] = {}
        self._losses = {line["key"]: line["streams"] for line in _read_lines(out / LOSSES)}

    def tasks(self) -> list[_Task]:
        """Every attack on every base in every amount that can be measured: what needs training as far as it was trained."""
        planned = [
            (attack, target, amount)
            for attack in ATTACKS
            for target in self.targets.values()
            for amount in attack.amounts_for(target.name)
        ]
        return [task for task in planned if task[0].tokens is None or self._trained(task) is not None]

    def missing(self) -> int:
        """How many attacks have not been trained."""
        wanted = sum(
            len(attack.amounts_for(base)) for attack in ATTACKS for base in self.targets if attack.tokens is not None
        )
        return wanted - sum(attack.tokens is not None for attack, _, _ in self.tasks())

    def key(self, task: _Task) -> str:
        """Changes whenever the models, the attack or the detector does."""
        return f"{self._digest(task)} {code_digest(_CODE)}"

    def loss(self, task: _Task) -> float | None:
        """Of the model when it is hidden, in the mixture of the attack; ``None`` where there is no text. Kept in ``out``."""
        if not self.held_out:
            return None
        key = f"{self._digest(task)} {code_digest(_MAKING)}"
        if key not in self._losses:
            shape, weights = self._faces(task)[HIDDEN]
            self._losses[key] = evaluate_streams(shape, round_weights(weights), self.held_out, windows=_WINDOWS)
            with (self.out / LOSSES).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "streams": self._losses[key]}) + "\n")
        return _weigh(task[0], self._losses[key])

    def measure(self, task: _Task) -> list[Point]:
        """Its faces, beside the base and beside the next base of its size."""
        attack, target, amount = task
        faces, strangers = self._faces(task), self._strangers(task)
        loss, base_loss = self.loss(task), self._base_loss(attack, target.name)
        size = sum(tensor.size for tensor in next(iter(faces.values()))[1].values())
        own = sum(tensor.size for tensor in load_model(self.zoo.records[target.name].folder)[1].values())
        points = []
        for face, (shape, weights) in faces.items():
            with TemporaryDirectory(prefix="homolog-bench-") as made:
                folder = Path(made) / "model"
                save_weights(folder, shape, weights)
                shutil.copy(self.zoo.records[target.name].folder / "tokenizer.json", folder)
                said = compare(self.zoo.records[target.name].folder, folder)
                accused = tuple(
                    name for name in strangers if compare(self.zoo.records[name].folder, folder).verdict.found
                )
            points.append(
                Point(
                    attack.name,
                    amount,
                    target.name,
                    self.zoo.is_held_out(self.zoo.lineage(target.name)),
                    face,
                    said.verdict.verdict,
                    said.verdict.tier,
                    said.verdict.log10_p,
                    said.agreement.value,
                    said.agreement.heads.value,
                    strangers,
                    accused,
                    attack.tokens(amount) if attack.tokens is not None else 0.0,
                    size / own,
                    loss,
                    base_loss,
                )
            )
        return points

    def _faces(self, task: _Task) -> dict[str, tuple[Shape, Weights]]:
        """The model as it is and hidden; one face where the attack hides it, or is free."""
        attack, target, _ = task
        shape, weights = self._attack(task)
        faces = {} if attack.hides or attack.is_free else {PLAIN: (shape, weights)}
        for step in () if attack.hides else hide(shape, target.unused):
            outcome = apply_operation(shape, weights, dict(step))
            shape, weights = outcome.shape, outcome.weights
        return {**faces, HIDDEN: (shape, weights)}

    def _digest(self, task: _Task) -> str:
        attack, target, amount = task
        trained = self._trained(task)
        bases = sorted({target.name, target.other, *self._strangers(task)})
        parts = [
            [attack.name, target.name, amount],
            [self.zoo.records[base].digest for base in bases],
            None if trained is None else trained.digest,
            [dict(step) for step in (*attack.steps(amount, target), *hide(target.shape, target.unused))],
            [sorted(self.held_out), _WINDOWS],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _attack(self, task: _Task) -> tuple[Shape, Weights]:
        attack, target, amount = task
        trained = self._trained(task)
        if trained is not None:
            return load_model(trained.folder)
        shape, weights = load_model(self.zoo.records[target.name].folder)
        for step in attack.steps(amount, target):
            outcome = apply_operation(
                shape, weights, dict(step), find=lambda name: load_model(self.zoo.records[name].folder)
            )
            shape, weights = outcome.shape, outcome.weights
        return shape, weights

    def _trained(self, task: _Task) -> Record | None:
        """The trained model of an attack, if it is there and was made by the recipe as it is now."""
        attack, target, amount = task
        folder = self.models / name_model(attack, target.name, amount)
        if attack.tokens is None or not (folder / "truth.json").is_file():
            return None
        truth, recipe = load_truth(folder), make_recipe(attack, target, amount)
        done = [{key: value for key, value in step.items() if key != "facts"} for step in truth["operations"]]
        wanted = [json.loads(json.dumps(part)) for part in (asdict(recipe.train), list(recipe.operations))]
        return Record(folder, truth) if [truth["recipe"], done] == wanted else None

    def _strangers(self, task: _Task) -> tuple[str, ...]:
        """The next base of its size that has no part in it, if there is one."""
        attack, target, amount = task
        merged = any(step["kind"] == "merge" for step in attack.steps(amount, target))
        group = next(group for group in GROUPS if target.name in group)
        place = group.index(target.name)
        others = (*group[place + 1 :], *group[:place])
        return tuple(name for name in others if name in self.targets and not (merged and name == target.other))[:1]

    def _base_loss(self, attack: Attack, base: str) -> float | None:
        if not self.held_out:
            return None
        if base not in self._bases:
            model = load_model(self.zoo.records[base].folder)
            self._bases[base] = evaluate_streams(*model, self.held_out, windows=_WINDOWS)
        return _weigh(attack, self._bases[base])


def measure_points(
    zoo: Zoo, models: Path, out: Path, cache: Path | None, progress: Progress = lambda *_: None
) -> tuple[list[Point], int]:
    """All points that can be measured, and how many attacks have not been trained.

    Attacks that need training are taken from ``models`` as far as they are there. Losses need the lab's text, out of ``cache``; without it
    they are ``None``. Finished points are kept in ``out/points.jsonl``. Raises ``UsageError`` where that cannot be written.
    """
    bench = Bench(zoo, models, out, cache)
    tasks = bench.tasks()
    try:
        out.mkdir(parents=True, exist_ok=True)
        _mend(out / LOSSES)
        kept = dict(_read_kept(out / RESULTS))
        points: list[Point] = []
        _mend(out / RESULTS)
        with (out / RESULTS).open("a", encoding="utf-8") as file:
            for done, task in enumerate(tasks):
                key = bench.key(task)
                if key not in kept:
                    progress(f"{task[0].name}: {task[1].name}, {task[2]:g}", done, len(tasks))
                    kept[key] = bench.measure(task)
                    line = {"key": key, "points": [point.to_json() for point in kept[key]]}
                    file.write(json.dumps(line, allow_nan=False) + "\n")
                    file.flush()
                points += kept[key]
    except OSError as error:
        raise UsageError(f"{out}: the results cannot be written there ({error.strerror or error})") from error
    progress("done", len(tasks), len(tasks))
    return [_from_json(point.to_json()) for point in points], bench.missing()


def _weigh(attack: Attack, streams: Mapping[str, float]) -> float:
    return sum(share * streams[stream] for stream, share in attack.mixture.items())


def _read_text(cache: Path, tokenizer: Tokenizer) -> dict[str, np.ndarray[Any, Any]]:
    corpus = load_corpus(cache, tokenizer=tokenizer)
    return {stream: ids for (stream, part), ids in corpus.streams.items() if part == "val"}


def _read_kept(path: Path) -> Iterator[tuple[str, list[Point]]]:
    for line in _read_lines(path):
        with suppress(KeyError, TypeError):  # kept by another version: measured again
            yield line["key"], [_from_json(point) for point in line["points"]]


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What was kept. A line that a kill has torn is skipped: it is measured again."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            yield json.loads(line)


def _mend(path: Path) -> None:
    """A line that a kill has torn is ended, so that the next one begins a line of its own."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def _from_json(document: Mapping[str, Any]) -> Point:
    return Point(**{**document, "strangers": tuple(document["strangers"]), "accused": tuple(document["accused"])})
