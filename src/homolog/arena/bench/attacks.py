"""What an adversary with a budget does to a copy: attacks of growing strength, as recipes of the lab.

Some are free (the model computes the same), some are numpy alone and cost function, and some are repaired by training, which needs torch.
Whatever was done, the finished model can be hidden for nothing once more (`hide`), so that is done to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from homolog.arena.recipes import Step, list_recipes
from homolog.lab.recipe import Recipe, Schedule
from homolog.lab.shape import Shape

__all__ = ["ATTACKS", "GROUPS", "LARGE", "SMALL", "Attack", "Target", "hide", "make_recipe", "name_model"]

LARGE, SMALL = ("a", "c", "d"), ("llama-32-00", "llama-32-01", "llama-32-02")
"""The bases that are attacked: one of each group was used for development (llama-32: two), the others are held out."""

GROUPS = (LARGE, SMALL)

_MIXTURE = {"en": 0.6, "zh": 0.2, "code": 0.2}
"""What the bases were trained on, and what a stolen one has to be good at."""


@dataclass(frozen=True, slots=True)
class Target:
    """The model under attack."""

    name: str
    shape: Shape
    steps: int
    """Of its training."""
    unused: Sequence[int]
    """Rows of its embedding for tokens that no text contains."""
    other: str
    """An independent model of its shape, to be merged with."""


_SEED = {"seed": 1}

Steps = Callable[[float, Target], tuple[Step, ...]]
Amount = Callable[[float], float]


def _nothing(amount: float, target: Target) -> tuple[Step, ...]:
    return ()


@dataclass(frozen=True)
class Attack:
    """One attack in growing amounts."""

    name: str
    text: str
    """What is done, in one sentence."""
    axis: str
    """What the amount counts."""
    amounts: tuple[float, ...]
    steps: Steps = _nothing
    tokens: Amount | None = None
    """Amount → tokens of the training that follows, as a share of the base's; ``None`` where nothing is trained."""
    rate: float = 3e-3
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(_MIXTURE))
    fresh: bool = False
    """Whether a new model is trained: on the predictions of the target, if `distilled`, or on text alone."""
    distilled: bool = False
    hides: bool = False
    """Whether the steps hide the model already, so that nothing is done to it afterwards."""
    bases: tuple[str, ...] = LARGE + SMALL
    fewer: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Base → the amounts for it, where they are not all."""

    def amounts_for(self, base: str) -> tuple[float, ...]:
        """The amounts in which this base is attacked."""
        return self.fewer.get(base, self.amounts) if base in self.bases else ()

    @property
    def is_free(self) -> bool:
        """Whether the model computes the same afterwards, or nearly."""
        return self.axis in _FREE_AXES

    @property
    def inherits(self) -> bool:
        """Whether what comes out descends from the target."""
        return not self.fresh


_FREE_AXES = frozenset(
    {
        "",
        "share of units split",
        "share of gates flipped",
        "pairs of decoys",
        "noise in dead channels",
        "size of the linear units' gates",
    }
)


def hide(shape: Shape, unused: Sequence[int]) -> tuple[Step, ...]:
    """All plain disguises at once: units split and permuted, heads permuted, values mixed, rescaled, rotated, unused rows drawn anew."""
    overwritten = {"kind": "overwrite_rows", "rows": list(unused), "own": True, **_SEED}
    return (*list_recipes(shape, unused)["fully_disguised"], overwritten)


def name_model(attack: Attack, base: str, amount: float) -> str:
    """The folder of a trained model."""
    return f"{base}.{attack.name.replace(' ', '-').replace(',', '')}.{amount:g}"


def make_recipe(attack: Attack, target: Target, amount: float) -> Recipe:
    """The lab's recipe of an attack that trains. Every seed comes from the name."""
    assert attack.tokens is not None
    name = name_model(attack, target.name, amount)
    steps = max(1, round(attack.tokens(amount) * target.steps))
    plan = Schedule(
        mixture=dict(attack.mixture),
        steps=steps,
        part="b",
        order=1 + crc32(name.encode()) % 10**6,
        lr=attack.rate,
        warmup=min(200, max(1, steps // 5)),
        teacher=target.name if attack.distilled else "",
    )
    kind = attack.name.replace(" ", "_").replace(",", "")
    if attack.fresh:
        return Recipe(name, kind, plan, seed=1 + crc32(name.encode()) % 10**6, shape=target.shape)
    operations = tuple(dict(step) for step in attack.steps(amount, target))
    return Recipe(name, kind, plan, parent=target.name, operations=operations)


def _split(share: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "split_units", "share": share, **_SEED},)


def _flip(share: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "flip_gates", "share": share, **_SEED},)


def _flip_quietly(quiet: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "flip_gates", "share": 0.5, "quiet": quiet, **_SEED},)


def _drown(pairs: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "add_decoys", "pairs": int(pairs), "length": 1.5, **_SEED},)


def _bury(noise: float, target: Target) -> tuple[Step, ...]:
    groups = target.shape.width // (target.shape.width // target.shape.kv_heads)
    return ({"kind": "bury_units", "groups": groups, "noise": noise, **_SEED},)


def _everything_free(amount: float, target: Target) -> tuple[Step, ...]:
    return (*_flip(0.6, target), *_drown(256, target), *_bury(10.0, target))


def _noise(sigma: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "add_noise", "relative": sigma, **_SEED},)


def _merge(share: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "merge", "method": "linear", "models": [target.other], "coefficients": [1 - share, share]},)


def _prune(share: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "prune_ffn", "units": max(2, round((1 - share) * target.shape.ffn))},)


def _reset_units(share: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "reset_units", "share": share, **_SEED},)


def _reset_layers(share: float, target: Target) -> tuple[Step, ...]:
    """From the middle outwards, where features are most a model's own."""
    count = round(share * target.shape.layers)
    middle = (target.shape.layers - 1) / 2
    chosen = sorted(range(target.shape.layers), key=lambda layer: (abs(layer - middle), layer))[:count]
    return ({"kind": "reset_layers", "layers": sorted(chosen), **_SEED},)


def _reset_embeddings(tokens: float, target: Target) -> tuple[Step, ...]:
    return ({"kind": "reset_embeddings", **_SEED},)


def _hidden_first(tokens: float, target: Target) -> tuple[Step, ...]:
    return list_recipes(target.shape, target.unused)["fully_disguised_rows_overwritten"]


def _flipped_first(tokens: float, target: Target) -> tuple[Step, ...]:
    return (*_flip(1.0, target), *_hidden_first(tokens, target)[1:])


def _all_at_once(tokens: float, target: Target) -> tuple[Step, ...]:
    return (*_noise(0.5, target), *_hidden_first(tokens, target), *_reset_embeddings(tokens, target))


_TOKENS = "tokens, as a share of the base's"
_REPAIR = 0.2


def _as_said(amount: float) -> float:
    return amount


def _repair(amount: float) -> float:
    return _REPAIR


def _few(*amounts: float) -> Mapping[str, tuple[float, ...]]:
    """For the large bases, which cost more to train and to measure."""
    return dict.fromkeys(LARGE, amounts)


_SHARES = (0.25, 0.5, 0.75, 0.9)
_SIGMAS = (0.1, 0.3, 0.5, 1.0, 2.0, 4.0)
_THIRDS = {**dict.fromkeys(LARGE, (0.4, 0.6)), **dict.fromkeys(SMALL, (1 / 3, 2 / 3))}

ATTACKS: tuple[Attack, ...] = (
    # free
    Attack("hidden", "All plain disguises at once, unused rows overwritten.", "", (1.0,)),
    Attack(
        "split",
        "Units split in two that share a gate.",
        "share of units split",
        (0.25, 0.5, 1.0),
        _split,
        fewer=_few(1.0),
    ),
    Attack(
        "flipped",
        "Gates turned round, two units more for each.",
        "share of gates flipped",
        (0.25, 0.5, 0.6, 1.0),
        _flip,
        fewer=_few(0.5, 1.0),
    ),
    Attack(
        "flipped quietly",
        "Half of the gates turned round, one nearly linear unit more for each: no gate has an opposite.",
        "size of the linear units' gates",
        (0.03, 0.1, 0.3),
        _flip_quietly,
        fewer=_few(0.03, 0.1),
    ),
    Attack(
        "drowned",
        "Pairs of units that cancel, of longer gates than all others.",
        "pairs of decoys",
        (32, 128, 256, 400),
        _drown,
        fewer=_few(128, 256),
    ),
    Attack(
        "buried",
        "Loud noise read from dead channels; the stream is twice as wide.",
        "noise in dead channels",
        (1, 3, 10, 30),
        _bury,
        fewer=_few(3, 10),
    ),
    Attack(
        "all that is free",
        "Flipped, drowned and buried, then all plain disguises.",
        "",
        (1.0,),
        _everything_free,
    ),
    # numpy alone, at the price of function
    Attack(
        "noise",
        "Noise on every matrix, nothing repaired.",
        "noise, in deviations of each matrix",
        _SIGMAS,
        _noise,
        fewer=_few(0.3, 0.5, 1.0, 2.0),
    ),
    Attack(
        "merged",
        "Averaged with an independent model.",
        "share of the other model",
        (0.1, 0.3, 0.5, 0.7, 0.9),
        _merge,
        fewer=_few(0.3, 0.5, 0.7),
    ),
    Attack(
        "pruned",
        "The least important units of every FFN cut off.",
        "share of units cut off",
        _SHARES,
        _prune,
        fewer=_few(0.5, 0.9),
    ),
    Attack(
        "units reset",
        "Units of every FFN back to random numbers.",
        "share of units reset",
        _SHARES,
        _reset_units,
        fewer=_few(0.5, 0.75),
    ),
    Attack(
        "layers reset",
        "Whole layers back to random numbers.",
        "share of layers reset",
        (1 / 3, 0.4, 0.6, 2 / 3),
        _reset_layers,
        fewer=_THIRDS,
    ),
    # with training
    Attack(
        "retrained",
        "Trained on, at the rate of the first training.",
        _TOKENS,
        (0.05, 0.2, 1.0, 3.0),
        tokens=_as_said,
        fewer=_few(0.2, 1.0),
    ),
    Attack(
        "retrained hot",
        "Trained on, at three times that rate.",
        _TOKENS,
        (0.05, 0.2, 1.0, 3.0),
        tokens=_as_said,
        rate=1e-2,
        fewer=_few(0.2),
    ),
    Attack(
        "retrained on Chinese",
        "Trained on Chinese alone.",
        _TOKENS,
        (0.2, 1.0, 3.0),
        tokens=_as_said,
        mixture={"zh": 1.0},
        bases=SMALL,
    ),
    Attack(
        "hidden, retrained",
        "All plain disguises, then trained on: split units drift apart.",
        _TOKENS,
        (0.05, 0.2, 1.0, 3.0),
        _hidden_first,
        _as_said,
        fewer=_few(0.05, 0.2, 1.0),
        hides=True,
    ),
    Attack(
        "hidden, retrained hot",
        "The same at three times the rate.",
        _TOKENS,
        (0.05, 0.2, 1.0, 3.0),
        _hidden_first,
        _as_said,
        rate=1e-2,
        fewer=_few(0.2),
        hides=True,
    ),
    Attack(
        "flipped, retrained",
        "Gates turned round, then trained on.",
        _TOKENS,
        (0.05, 0.2, 1.0),
        _flipped_first,
        _as_said,
        fewer=_few(0.2),
        hides=True,
    ),
    Attack(
        "embeddings reset",
        "Embeddings thrown away, then everything trained.",
        _TOKENS,
        (0.05, 0.2, 1.0),
        _reset_embeddings,
        _as_said,
        fewer=_few(0.2),
    ),
    Attack(
        "noise, repaired",
        "Noise on every matrix, repaired for a fifth of the base's tokens.",
        "noise, in deviations of each matrix",
        _SIGMAS[2:],
        _noise,
        _repair,
        fewer=_few(1.0, 2.0),
    ),
    Attack(
        "noise, repaired long",
        "The same, repaired for as many tokens as the base had.",
        "noise, in deviations of each matrix",
        _SIGMAS[2:],
        _noise,
        lambda amount: 1.0,
        bases=SMALL,
    ),
    Attack(
        "merged, repaired",
        "Averaged with an independent model, repaired for a fifth of the base's tokens.",
        "share of the other model",
        (0.1, 0.3, 0.5),
        _merge,
        _repair,
        bases=SMALL,
    ),
    Attack(
        "pruned, repaired",
        "Units cut off, repaired for a fifth of the base's tokens.",
        "share of units cut off",
        _SHARES,
        _prune,
        _repair,
        bases=SMALL,
    ),
    Attack(
        "units reset, repaired",
        "Units back to random numbers, repaired for a fifth.",
        "share of units reset",
        _SHARES,
        _reset_units,
        _repair,
        bases=SMALL,
    ),
    Attack(
        "layers reset, repaired",
        "Whole layers back to random numbers, repaired for a fifth.",
        "share of layers reset",
        (1 / 3, 2 / 3),
        _reset_layers,
        _repair,
        bases=SMALL,
    ),
    Attack(
        "all at once",
        "Noise 0.5, all plain disguises, embeddings thrown away, then trained.",
        _TOKENS,
        (0.2, 1.0, 3.0),
        _all_at_once,
        _as_said,
        fewer=_few(0.2),
        hides=True,
    ),
    # what is no theft of weights
    Attack(
        "distilled",
        "A new model trained on the predictions of the base.",
        _TOKENS,
        (0.2, 1.0, 3.0, 10.0),
        tokens=_as_said,
        fresh=True,
        distilled=True,
        bases=SMALL,
    ),
    Attack(
        "from nothing",
        "A new model trained on the text alone: what theft is measured by.",
        _TOKENS,
        (0.05, 0.2, 0.5, 1.0, 3.0),
        tokens=_as_said,
        fresh=True,
        bases=("a", *SMALL[:1]),
        fewer={"a": (0.05, 0.2)},
    ),
)
