"""A bank on disk: the same bytes for the same bank, and one error for what is not a bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.bank.test_bank import draw_bank

from homolog.bank.storage import SCHEMA, load_bank, save_bank
from homolog.errors import UsageError


def test_what_is_saved_comes_back_and_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    bank = draw_bank(np.random.default_rng(1), 6)
    bank.statistics["s"][3] = np.nan
    save_bank(bank, tmp_path / "bank.json")
    again = load_bank(tmp_path / "bank.json")
    save_bank(again, tmp_path / "again.json")
    assert (tmp_path / "bank.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    assert again.models == bank.models
    assert np.array_equal(again.pairs, bank.pairs)
    assert np.allclose(again.statistics["s"], bank.statistics["s"], rtol=1e-4, equal_nan=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "bank.json"]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    save_bank(draw_bank(np.random.default_rng(2), 4), tmp_path / "good.json")
    loaded: dict[str, Any] = json.loads((tmp_path / "good.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", "homolog.bank/99", f"expected {SCHEMA!r}"),
        ("models", [{"id": "m"}], "not a bank"),
        ("models", 5, "not a bank"),
        ("pairs", [[0, 9]] * 6, "pairs name models 0 to 9 of 4"),
        ("pairs", [[1, 0]] * 6, "ascending"),
        ("pairs", [[0, 1]], "6 values for 1 pairs"),
        ("pairs", "abc", "not a bank"),
        ("statistics", {"s": {"text": "", "values": ["x"]}}, "not a bank"),
        ("statistics", [], "not a bank"),
    ],
)
def test_a_file_that_is_not_a_bank_gives_one_error_that_names_it(
    document: dict[str, Any], tmp_path: Path, key: str, value: object, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**document, key: value}), encoding="utf-8")
    with pytest.raises(UsageError, match=message) as caught:
        load_bank(path)
    assert "bad.json" in str(caught.value)


def test_a_bank_that_is_missing_not_json_nested_without_end_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_bank(tmp_path / "none.json")
    for name, content in {"text": b"hello", "deep": b"[" * 100_000, "bytes": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=name):
            load_bank(tmp_path / name)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(UsageError, match="at most"):
        load_bank(tmp_path / "large")
