"""Training, resumable: the same recipe gives the same bytes on the same machine, killed in between or not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from homolog.errors import UsageError
from homolog.lab.corpus import Corpus
from homolog.lab.model import run_model
from homolog.lab.recipe import Schedule
from homolog.lab.shape import Shape, Weights

__all__ = ["draw_windows", "measure_loss", "rate", "train"]

SAVE_EVERY = 500
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
    progress: Progress = lambda step, loss: None,
) -> tuple[Weights, Curve]:
    """Train; returns the weights and the loss curve (means over a twentieth of the run).

    With a ``teacher`` the targets are its predictions, not the text. Unfinished state lies in ``work`` until the end, and a killed run
    goes on from there.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    work.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.tensor(weights[name], requires_grad=name not in frozen) for name in sorted(weights)}
    moving = [tensor for tensor in tensors.values() if tensor.requires_grad]
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
    windows = draw_windows(corpus, schedule).reshape(schedule.steps, schedule.batch, -1)
    for step in range(start, schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate(schedule, step)
        ids = torch.from_numpy(windows[step])
        loss, balance = _loss(tensors, shape, ids, predict(ids))
        torch.autograd.backward(loss + 0.01 * balance)
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        done = step + 1
        if done in schedule.keep:
            kept: dict[str, Any] = {**_to_numpy(tensors)}
            np.savez(work / f"step-{done:06d}.npz", **kept)
        if done % SAVE_EVERY == 0 and done < schedule.steps:
            _save_state(state, run, tensors, optimiser, losses)
            progress(done, sum(losses[-100:]) / 100)
    state.unlink(missing_ok=True)
    return _to_numpy(tensors), _smooth(losses)


def measure_loss(shape: Shape, weights: Weights, corpus: Corpus, stream: str, *, windows: int = 128) -> float:
    """Mean loss in nats per token on the first windows of a stream's ``val`` part."""
    tensors = {name: torch.tensor(weight) for name, weight in weights.items()}
    ids = corpus.streams[stream, "val"][: windows * 64 + 1].astype(np.int64)
    batch = np.stack([ids[start : start + 65] for start in range(0, len(ids) - 64, 64)])
    with torch.no_grad():
        drawn = torch.from_numpy(batch)
        return float(_loss(tensors, shape, drawn, _next_tokens(drawn))[0])


def _loss(
    tensors: dict[str, torch.Tensor], shape: Shape, ids: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    logits, balance = run_model(tensors, shape, ids[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), targets), balance


def _next_tokens(ids: torch.Tensor) -> torch.Tensor:
    return ids[:, 1:].flatten()


def _predictor(teacher: tuple[Shape, Weights] | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """What is to be predicted for a batch of windows: the next tokens, or the teacher's distribution over them."""
    if teacher is None:
        return _next_tokens
    shape, weights = teacher
    tensors = {name: torch.tensor(weight) for name, weight in weights.items()}

    def predict(ids: torch.Tensor) -> torch.Tensor:
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
    partial = path.with_suffix(".part")
    kept = {name: tensor.detach() for name, tensor in tensors.items()}
    torch.save({"run": run, "tensors": kept, "optimiser": optimiser.state_dict(), "losses": losses}, partial)
    partial.replace(path)


def _smooth(losses: list[float]) -> Curve:
    size = max(1, len(losses) // 20)
    return [(stop, round(sum(losses[stop - size : stop]) / size, 4)) for stop in range(size, len(losses) + 1, size)]
