from __future__ import annotations

from pathlib import Path

import pytest

from homolog.checkpoint.address import Address, RemotePath, name_repository, parse_address, show_address
from homolog.checkpoint.budget import Budget, parse_bytes, show_bytes
from homolog.errors import BudgetExceeded, CheckpointNotFound, MalformedCheckpoint, UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("org/name", Address("hub", "org/name")),
        ("org/name@v1.0", Address("hub", "org/name", "v1.0")),
        ("hf://org/name@refs/pr/1", Address("hub", "org/name", "refs/pr/1")),
        ("modelscope://Qwen/Qwen2.5", Address("modelscope", "Qwen/Qwen2.5")),
        ("HTTPS://host/a/b", Address("web", "https://host/a/b")),
        ("https:/host/a", Address("web", "https://host/a")),
        ("s3://bucket/key", Address("bucket", "s3://bucket/key")),
        ("./a/b", None),
        ("../b", None),
        ("a/b/c", None),
        ("name", None),
        ("/org/name", None),
        ("folder/model.safetensors", None),
        ("org/name@", None),
        ("", None),
    ],
)
def test_what_is_an_address(text: str, address: Address | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["ftp://host/a", "https://", "hf://name", "modelscope://a/b/c", "file:///etc/passwd"])
def test_other_schemes_are_refused(text: str) -> None:
    with pytest.raises(CheckpointNotFound, match="at address"):
        parse_address(text)


def test_a_path_that_exists_always_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_address("org/name") is not None
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert parse_address("org/name") is None
    assert name_repository("org/name") == "org/name"
    assert parse_address("hf://org/name") == Address("hub", "org/name")


def test_an_address_stays_one_in_paths_and_errors() -> None:
    path = Address("web", "https://host/a").path / "model.safetensors"
    assert str(path) == "https://host/a/model.safetensors"
    assert path.suffix == ".safetensors"
    assert str(path.parent) == "https://host/a"
    assert isinstance(path, RemotePath)
    error = MalformedCheckpoint(path, at="header", found="nothing", expected="something")
    assert str(error).startswith("https://host/a/model.safetensors: at header")


def test_what_is_shown_holds_no_secret() -> None:
    assert show_address("https://user:pass@host/a/m.safetensors?sig=abc#x") == "https://host/a/m.safetensors"
    assert show_address("org/name@main") == "org/name@main"
    assert show_address(Path("a") / "b") == str(Path("a") / "b")


@pytest.mark.parametrize(
    ("text", "count"), [("200MB", 200_000_000), ("1.5 GiB", 3 << 29), ("12", 12), ("0b", 0), ("3kb", 3000)]
)
def test_amounts(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "-1", "MB", "1e9", "12 parsecs", "1.2.3MB", "9" * 40])
def test_no_amounts(text: str) -> None:
    with pytest.raises(UsageError, match="write it as a number with a unit"):
        parse_bytes(text)


def test_amounts_are_shown_shortly() -> None:
    shown = [show_bytes(count) for count in (0, 999, 37_200_000, 29_540_000_000, 5 * 10**12)]
    assert shown == ["0 bytes", "999 bytes", "37.2 MB", "29.5 GB", "5,000 GB"]


def test_a_budget_counts_what_is_promised_and_what_arrives() -> None:
    budget, path = Budget(100), Path("m")
    with budget.promise(60, path) as promise:
        assert budget.left == 40
        promise.arrive(30)
        assert budget.left == 40
        with pytest.raises(BudgetExceeded, match="40 bytes left of 100 bytes"), budget.promise(41, path):
            pass
    assert budget.left == 70
    assert budget.spent == 30
