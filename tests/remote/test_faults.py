"""Every fault of the server is survived with the same bytes, or refused with one clear error; nothing half-written stays behind."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.remote.conftest import Hub

from homolog import compare, open_checkpoint
from homolog.checkpoint.budget import Budget
from homolog.checkpoint.session import Session
from homolog.checkpoint.web import Web
from homolog.errors import CheckpointError, MalformedCheckpoint, RangesRefused, SourceChanged, TransferFailed

ZOO = Path(__file__).parents[1] / "zoo"
CDN = "GET /cdn/.*safetensors"


def _read_all(address: str, session: Session | None = None) -> str:
    with open_checkpoint(address, session) as checkpoint:
        for name in checkpoint.tensors:
            checkpoint.read_rows(name)
        return checkpoint.meter.hexdigest()


EXPECTED = _read_all(str(ZOO / "a"))


@pytest.fixture
def impatient(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HOMOLOG_TIMEOUT", "0.4")
    return hub


def _status(status: int, times: int, at: str = CDN, **headers: str) -> dict[str, Any]:
    return {"at": at, "kind": "status", "status": status, "times": times, "headers": headers}


PASSING = [
    _status(429, 2),
    _status(429, 1, RateLimit='"resolvers";r=0;t=0'),
    _status(500, 3),
    _status(503, 1, "GET /api/models/zoo/a/revision"),
    _status(502, 1, "GET /api/models/zoo/a/tree"),
    _status(504, 1, "GET /zoo/a/resolve/.*config.json"),
    _status(403, 1),  # a signature that ran out
    {"at": CDN, "kind": "cut", "times": 4},
    {"at": "GET /zoo/a/resolve/.*config.json", "kind": "cut", "times": 1},
    {"at": CDN, "kind": "drip", "times": 1},
    {"at": CDN, "kind": "short", "times": 2},
    {"at": CDN, "kind": "long", "times": 2},
    {"at": CDN, "kind": "shift", "times": 2},
    {"at": CDN, "kind": "hang up", "times": 2},
    {"at": "GET /api/models", "kind": "hang up", "times": 1},
    {"at": CDN, "kind": "junk", "times": 2},
    {"at": CDN, "kind": "headers", "times": 1},
]
"""Faults that pass."""


def _name(fault: dict[str, Any]) -> str:
    return f"{fault['kind']} {fault.get('status', '')} {fault['at'][-12:]}"


@pytest.mark.parametrize("fault", PASSING, ids=_name)
def test_faults_that_pass_are_survived(impatient: Hub, fault: dict[str, Any]) -> None:
    impatient.fail(fault)
    assert _read_all("zoo/a") == EXPECTED


@pytest.mark.parametrize("fault", PASSING, ids=_name)
def test_the_verdict_is_the_same_through_faults(impatient: Hub, fault: dict[str, Any]) -> None:
    impatient.fail(fault)
    disturbed = compare("zoo/a", "zoo/b").to_json()
    undisturbed = compare(ZOO / "a", ZOO / "b").to_json()
    assert {key for key in undisturbed if undisturbed[key] != disturbed[key]} == {"a", "b", "provenance", "run"}
    assert [disturbed[side]["digest"] for side in "ab"] == [undisturbed[side]["digest"] for side in "ab"]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (_status(429, -1), TransferFailed, "HTTP 429, 6 times in a row"),
        (_status(429, -1, **{"Retry-After": "86400"}), TransferFailed, "asked again in 86400 s"),
        (_status(500, -1, "GET /api"), TransferFailed, "HTTP 500, 6 times"),
        (_status(302, -1, Location="/again"), TransferFailed, "HTTP 403 from the address"),
        (_status(404, -1), TransferFailed, "HTTP 404 from the address"),
        ({"at": CDN, "kind": "hang up"}, TransferFailed, "a network error"),
        ({"at": CDN, "kind": "junk"}, TransferFailed, "a network error"),
        ({"at": CDN, "kind": "short"}, TransferFailed, "were asked for"),
        ({"at": CDN, "kind": "long"}, TransferFailed, "were asked for"),
        ({"at": CDN, "kind": "shift"}, TransferFailed, "were asked for"),
        ({"at": CDN, "kind": "whole"}, RangesRefused, "the whole file"),
        ({"at": CDN, "kind": "total"}, SourceChanged, "at size"),
        ({"at": CDN, "kind": "etag", "skip": 1}, SourceChanged, "at ETag"),
        ({"at": "GET /zoo/a/resolve/.*safetensors", "kind": "other content"}, SourceChanged, "as listed before"),
        ({"at": "GET /api", "kind": "endless"}, TransferFailed, "more than|network error"),
        ({"at": "GET /api", "kind": "headers"}, TransferFailed, "a network error"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_faults_that_stay_are_one_clear_error(
    impatient: Hub, fault: dict[str, Any], error: type[CheckpointError], said: str, tmp_path: Path
) -> None:
    impatient.fail(fault)
    with pytest.raises(error, match=said) as raised:
        _read_all("zoo/a")
    assert "zoo/a" in str(raised.value)
    assert not [path for path in (tmp_path / "cache").rglob(".*") if path.is_file()]
    impatient.fail()
    assert _read_all("zoo/a") == EXPECTED


def test_retry_after_is_honoured(hub: Hub) -> None:
    hub.fail(_status(429, 1, **{"Retry-After": "1"}))
    began = time.monotonic()
    assert _read_all("zoo/a") == EXPECTED
    assert time.monotonic() - began >= 1.0


def test_a_host_is_asked_at_a_measured_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred requests at once, then twenty a second, for each host; a pause that it asks for holds for all."""
    clock = [time.monotonic() + 60]

    def sleep(seconds: float) -> None:
        clock[0] += max(seconds, 1e-6)

    monkeypatch.setattr(
        "homolog.checkpoint.web.time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep, time=time.time)
    )
    web, began = Web(Budget()), clock[0]
    for _ in range(100):
        web._await_turn("https://one:443")
    assert clock[0] == began
    for _ in range(40):
        web._await_turn("https://one:443")
    assert clock[0] - began == pytest.approx(2.0, abs=0.1)
    web._await_turn("https://two:443")
    assert clock[0] - began == pytest.approx(2.0, abs=0.1)
    web._close_for("https://two:443", 30.0)
    web._await_turn("https://two:443")
    assert clock[0] - began == pytest.approx(32.0, abs=0.2)


def test_what_arrived_before_a_cut_is_not_fetched_again(hub: Hub) -> None:
    hub.fail({"at": CDN, "kind": "cut", "times": 3})
    assert _read_all("zoo/a") == EXPECTED
    size = (ZOO / "a" / "model.safetensors").stat().st_size
    assert sum(entry["sent"] for entry in hub.log() if entry["port"] == "cdn") <= size


def test_a_signature_that_runs_out_is_renewed(hub: Hub) -> None:
    with open_checkpoint("zoo/a") as checkpoint:
        names = list(checkpoint.tensors)
        hub.control(signature="2")
        for name in names:
            checkpoint.read_rows(name)
        assert checkpoint.meter.hexdigest() == EXPECTED


def test_a_commit_after_opening_changes_nothing_or_is_refused(hub: Hub, tmp_path: Path) -> None:
    path = hub.root / "zoo" / "a" / "model.safetensors"
    before = path.read_bytes()
    try:
        with open_checkpoint("zoo/a") as checkpoint:
            path.write_bytes(before[:-4] + b"\x00\x00\x80\x3f")
            with pytest.raises(SourceChanged):
                [checkpoint.read_rows(name) for name in checkpoint.tensors]
    finally:
        path.write_bytes(before)


def test_a_header_of_ten_gigabytes_is_refused_unread(hub: Hub) -> None:
    folder = hub.root / "zoo" / "huge"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 10 * 10**9) + b"{")
        file.truncate(11 * 10**9)  # a hole
    with pytest.raises(MalformedCheckpoint, match="10000000000 bytes"):
        open_checkpoint("zoo/huge")
    assert sum(entry["sent"] for entry in hub.log()) < 200_000
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", 90 * 10**6))
    session = Session(budget=1_000_000)
    with pytest.raises(CheckpointError):
        open_checkpoint("zoo/huge", session)
    assert session.budget.spent <= 1_000_000


def test_a_redirect_to_another_host_goes_without_the_login(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_valid_token")
    where = f"{hub.cdn}/cdn/zoo/a/config.json?signature=1&token=hf_a_valid_token"
    hub.fail(_status(307, -1, "GET /zoo/a/resolve/.*config.json", Location=where))
    assert _read_all("zoo/a") == EXPECTED
    assert {entry["token"] for entry in hub.log() if entry["port"] == "cdn"} == {None}
