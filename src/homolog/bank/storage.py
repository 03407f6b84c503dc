"""Reading and writing a bank: one JSON document, described in docs/data-model.md."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from homolog.bank.bank import Bank, BankModel
from homolog.errors import UsageError

__all__ = ["SCHEMA", "load_bank", "save_bank"]

SCHEMA = "homolog.bank/1"
_LARGEST = 64 << 20
_DIGITS = 5


def load_bank(path: Path | None = None) -> Bank:
    """The bank of the package, or the one in ``path``.

    Raises ``UsageError`` for a file that cannot be read or is not a bank of this version.
    """
    return _load_packaged() if path is None else _read(_read_text(path), str(path))


def save_bank(bank: Bank, path: Path) -> None:
    """Write a bank to ``path``, over what was there, in one step; the same bank gives the same bytes."""
    document = {
        "schema": SCHEMA,
        "models": [asdict(model) for model in bank.models],
        "pairs": bank.pairs.tolist(),
        "statistics": {
            name: {"text": bank.texts[name], "values": [_plain(value) for value in values]}
            for name, values in sorted(bank.statistics.items())
        },
    }
    partial = path.with_name(path.name + ".part")
    partial.write_text(_lay_out(document), encoding="utf-8")
    partial.replace(path)


@cache
def _load_packaged() -> Bank:
    return _read(files("homolog.bank").joinpath("independent.json").read_text("utf-8"), "the bank of the package")


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise UsageError(f"{path}: found {size} bytes, expected a bank of at most {_LARGEST}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"{path}: the bank cannot be read: {reason}") from error


def _read(text: str, where: str) -> Bank:
    try:
        document = json.loads(text)
        schema = document["schema"]
        if schema != SCHEMA:
            raise UsageError(f"{where}: found a document of schema {schema!r}, expected {SCHEMA!r}")
        models = tuple(_model(entry) for entry in document["models"])
        pairs = np.array(document["pairs"], dtype=np.intp).reshape(-1, 2)
        held: dict[str, dict[str, Any]] = document["statistics"]
        values = {name: _array(entry["values"]) for name, entry in held.items()}
        texts = {name: str(entry["text"]) for name, entry in held.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise UsageError(f"{where}: not a bank: {type(error).__name__}: {str(error)[:200]}") from error
    _check(models, pairs, values, where)
    return Bank(models, pairs, values, texts)


def _model(entry: dict[str, Any]) -> BankModel:
    return BankModel(
        id=str(entry["id"]),
        group=str(entry["group"]),
        architecture=str(entry["architecture"]),
        parameters=int(entry["parameters"]),
        layers=int(entry["layers"]),
        width=int(entry["width"]),
        units=int(entry["units"]),
        digest=str(entry["digest"]),
        recipe=str(entry["recipe"]),
        teacher=str(entry.get("teacher", "")),
    )


def _check(models: tuple[BankModel, ...], pairs: Any, values: dict[str, Any], where: str) -> None:
    if len({model.id for model in models}) != len(models):
        raise UsageError(f"{where}: not a bank: two models of one name")
    if pairs.size and (pairs.min() < 0 or pairs.max() >= len(models) or not (pairs[:, 0] < pairs[:, 1]).all()):
        raise UsageError(
            f"{where}: not a bank: pairs name models {pairs.min()} to {pairs.max()} of {len(models)}, in ascending order"
        )
    for name, column in values.items():
        if column.shape != (len(pairs),):
            raise UsageError(f"{where}: not a bank: {name} has {column.size} values for {len(pairs)} pairs")


def _array(values: list[float | None]) -> Any:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)


def _plain(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _lay_out(document: dict[str, Any]) -> str:
    """JSON with one model, and one list of numbers, a line: small, and readable in a diff."""
    lines = ["{", f' "schema": {json.dumps(document["schema"])},', ' "models": [']
    lines.append(",\n".join(f"  {json.dumps(model, ensure_ascii=False)}" for model in document["models"]))
    lines += [" ],", f' "pairs": {json.dumps(document["pairs"], separators=(",", ":"))},', ' "statistics": {']
    columns = [
        f'  {json.dumps(name)}: {{"text": {json.dumps(entry["text"], ensure_ascii=False)}, '
        f'"values": {json.dumps(entry["values"], separators=(",", ":"))}}}'
        for name, entry in document["statistics"].items()
    ]
    lines += [",\n".join(columns), " }", "}"]
    return "\n".join(lines) + "\n"
