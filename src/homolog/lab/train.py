"""Training, resumable: the same recipe gives the same bytes on the same machine, killed in between or not."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from homolog.errors import UsageError
from homolog.lab.adapters import merge_adapters
from homolog.lab.corpus import Corpus
from homolog.lab.model import run_model
from homolog.lab.recipe import Schedule
from homolog.lab.shape import Shape, Weights

__all__ = ["draw_windows", "measure_loss", "rate", "soil_windows", "train"]

SAVE_EVERY = 500
_MOST_LOGITS = 1 << 27
"""Held at once where loss is measured."""
Progress = Callable[[int, float], None]
Curve = list[tuple[int, float]]


def draw_windows(corpus: Corpus, schedule: Schedule) -> npt.NDArray[np.int64]:
    """All windows of the run in training order, shape ``(steps · batch, context + 1)``.

    Every stream gives its share from the front of the part, over again when used up; then ``order`` permutes them.
    """
    total = schedule.steps * schedule.batch
    windows = []
    for stream, share in sorted(schedule.mixture.items()):
        if (stream, schedule.part) not in corpus.streams:
            raise UsageError(f"mixture: no stream {stream!r} with a part {schedule.part!r}")
        ids = corpus.streams[stream, schedule.part]
        available = (len(ids) - 1) // schedule.context
        places = np.arange(round(share * total)) % available * schedule.context
        windows.append(ids[places[:, None] + np.arange(schedule.context + 1)].astype(np.int64))
    drawn = np.concatenate(windows)[:total]
    if len(drawn) < total:
        drawn = np.concatenate([drawn, drawn[: total - len(drawn)]])
    return drawn[np.random.default_rng(schedule.order).permutation(total)]


def soil_windows(
    windows: npt.NDArray[np.int64], schedule: Schedule, vocab: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The windows and what is to be predicted in them, ``(windows, context + 1)`` and ``(windows, context)``.

    Some windows are made worthless on purpose, as the schedule says: tokens drawn uniformly from all ids, or targets shuffled within the
    window. No window is both.
    """
    rng = np.random.default_rng([schedule.order, 1])
    ids, order = windows.copy(), rng.permutation(len(windows))
    noise = order[: round(schedule.random_tokens * len(ids))]
    ids[noise] = rng.integers(0, vocab, (len(noise), ids.shape[1]))
    targets = ids[:, 1:].copy()
    mixed = order[len(ids) - round(schedule.shuffled_labels * len(ids)) :]
    targets[mixed] = rng.permuted(targets[mixed], axis=1)
    return ids, targets


def rate(schedule: Schedule, step: int) -> float:
    """The learning rate of ``step`` (from 0)."""
    if step < schedule.warmup:
        return schedule.lr * (step + 1) / schedule.warmup
    done = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    return schedule.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(
    shape: Shape,
    weights: Weights,
    schedule: Schedule,
    corpus: Corpus,
    *,
    frozen: frozenset[str] = frozenset(),
    teacher: tuple[Shape, Weights] | None = None,
    work: Path,
    save_every: int | None = None,
    threads: int = 1,
    progress: Progress = lambda step, loss: None,
) -> tuple[Weights, Curve]:
    """Train; returns the weights and the loss curve (means over a twentieth of the run).

    With a ``teacher`` the targets are its predictions, not the text. Adapters among the weights are trained and given back beside their
    matrices. Unfinished state lies in ``work`` until the end, and a killed run goes on from there. Raises ``OSError`` where that cannot be
    written; the state before it stays.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    work.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.tensor(weights[name], requires_grad=name not in frozen) for name in sorted(weights)}
    moving = [tensor for name, tensor in tensors.items() if schedule.thaw or name not in frozen]
    groups = [
        {"params": [t for t in moving if t.dim() > 1], "weight_decay": schedule.decay},
        {"params": [t for t in moving if t.dim() == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=schedule.lr, betas=(0.9, 0.95), fused=True)
    start, losses = 0, []
    state = work / "state.pt"
    run = _identify(shape, weights, schedule)
    predict = _predictor(teacher)
    found = torch.load(state, weights_only=True) if state.exists() else {}
    if found.get("run") == run:
        for name, value in found["tensors"].items():
            tensors[name].data.copy_(value)
        optimiser.load_state_dict(found["optimiser"])
        start, losses = len(found["losses"]), found["losses"]
    windows, targets = (
        part.reshape(schedule.steps, schedule.batch, part.shape[1])
        for part in soil_windows(draw_windows(corpus, schedule), schedule, shape.vocab)
    )
    for step in range(start, schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate(schedule, step)
        if schedule.thaw and step >= schedule.thaw:
            for tensor in moving:
                tensor.requires_grad_(True)
        ids = torch.from_numpy(windows[step])
        wanted = predict(ids, torch.from_numpy(targets[step]))
        loss, balance = _loss(merge_adapters(tensors), shape, ids, wanted)
        torch.autograd.backward(loss + 0.01 * balance)
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        done = step + 1
        if done in schedule.keep:
            _save_step(work / f"step-{done:06d}.npz", _to_numpy(tensors))
        if done % (save_every or SAVE_EVERY) == 0 and done < schedule.steps:
            _save_state(state, run, tensors, optimiser, losses)
            progress(done, sum(losses[-100:]) / len(losses[-100:]))
    state.unlink(missing_ok=True)
    return _to_numpy(tensors), _smooth(losses)


def measure_loss(shape: Shape, weights: Weights, corpus: Corpus, stream: str, *, windows: int = 128) -> float:
    """Mean loss in nats per token on the first windows of a stream's ``val`` part."""
    tensors = {name: torch.tensor(weight) for name, weight in weights.items()}
    ids = corpus.streams[stream, "val"][: windows * 64 + 1].astype(np.int64)
    drawn = torch.from_numpy(np.stack([ids[start : start + 65] for start in range(0, len(ids) - 64, 64)]))
    batches = drawn.split(max(1, _MOST_LOGITS // (64 * shape.vocab)))
    with torch.no_grad():
        losses = [float(_loss(tensors, shape, ids, ids[:, 1:].flatten())[0]) * len(ids) for ids in batches]
    return sum(losses) / len(drawn)


def _loss(
    tensors: dict[str, torch.Tensor], shape: Shape, ids: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    logits, balance = run_model(tensors, shape, ids[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), targets), balance


def _predictor(teacher: tuple[Shape, Weights] | None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """What is to be predicted for a batch of windows: their targets, or the teacher's distribution over the next token."""
    if teacher is None:
        return lambda ids, targets: targets.flatten()
    shape, weights = teacher
    tensors = {name: torch.tensor(weight) for name, weight in weights.items()}

    def predict(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return run_model(tensors, shape, ids[:, :-1])[0].flatten(0, 1).softmax(-1)

    return predict


def _to_numpy(tensors: dict[str, torch.Tensor]) -> Weights:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def _identify(shape: Shape, weights: Weights, schedule: Schedule) -> str:
    """What a kept state belongs to: another shape, start or schedule means another run."""
    sha = hashlib.sha256(f"{shape}{schedule}".encode())
    for name in sorted(weights):
        sha.update(weights[name].tobytes())
    return sha.hexdigest()


def _save_state(
    path: Path, run: str, tensors: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer, losses: list[float]
) -> None:
    kept = {name: tensor.detach() for name, tensor in tensors.items()}
    made = io.BytesIO()
    torch.save({"run": run, "tensors": kept, "optimiser": optimiser.state_dict(), "losses": losses}, made)
    _write_whole(path, made)


def _save_step(path: Path, weights: Weights) -> None:
    named: dict[str, Any] = {**weights}
    made = io.BytesIO()
    np.savez(made, **named)
    _write_whole(path, made)


def _write_whole(path: Path, made: io.BytesIO) -> None:
    """The file as a whole or not at all; made in memory first, because a full disk is no ``OSError`` to torch."""
    partial = path.with_suffix(".part")
    try:
        partial.write_bytes(made.getbuffer())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _smooth(losses: list[float]) -> Curve:
    size = max(1, len(losses) // 20)
    return [(stop, round(sum(losses[stop - size : stop]) / size, 4)) for stop in range(size, len(losses) + 1, size)]
