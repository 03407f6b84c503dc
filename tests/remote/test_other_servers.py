"""Plain web servers, ModelScope and buckets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from tests.remote.conftest import Hub

from homolog import compare, open_checkpoint
from homolog.checkpoint.session import Session
from homolog.errors import (
    AccessRefused,
    BudgetExceeded,
    CheckpointNotFound,
    IncompleteCheckpoint,
    NotCached,
    RangesRefused,
    SourceChanged,
    TransferFailed,
)

ZOO = Path(__file__).parents[1] / "zoo"


def _read_all(address: str, session: Session | None = None) -> str:
    with open_checkpoint(address, session) as checkpoint:
        for name in checkpoint.tensors:
            checkpoint.read_rows(name)
        return checkpoint.meter.hexdigest()


EXPECTED = _read_all(str(ZOO / "a"))


class Store(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that answers to ``s3://``."""

    protocol = ("s3",)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setitem(_registry, "s3", Store)
    Store.store.clear()
    system = Store()
    for path in (ZOO / "a").iterdir():
        system.pipe(f"/bucket/a/{path.name}", path.read_bytes())
    yield system
    Store.store.clear()


@pytest.mark.parametrize(
    "tail", ["/plain/zoo/a", "/plain/zoo/a/", "/plain/zoo/a/model.safetensors", "/plain/zoo/a/model.safetensors?x=1"]
)
def test_a_folder_and_a_file_of_a_web_server(hub: Hub, tail: str) -> None:
    assert _read_all(hub.url + tail) == EXPECTED
    hub.forget()
    assert _read_all(hub.url + tail) == EXPECTED
    fetched = [entry for entry in hub.log() if "safetensors" in entry["path"] and entry["range"] != "bytes=0-0"]
    assert fetched == []
    hub.forget()
    assert _read_all(hub.url + tail, Session(offline=True)) == EXPECTED
    assert hub.log() == []


def test_the_verdict_over_http_is_that_of_the_files(hub: Hub) -> None:
    remote = compare(f"{hub.url}/plain/zoo/a", ZOO / "b").to_json()
    local = compare(ZOO / "a", ZOO / "b").to_json()
    assert {key for key in local if local[key] != remote[key]} == {"a", "provenance", "run"}
    assert remote["a"]["digest"] == local["a"]["digest"]


def test_shards_of_a_web_server_are_found_by_the_index(hub: Hub) -> None:
    folder = hub.root / "zoo" / "sharded"
    shutil.copytree(ZOO / "a", folder, dirs_exist_ok=True)
    file = folder / "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(file)
    with open_checkpoint(file) as checkpoint:
        names = list(checkpoint.tensors)
    text = ", ".join(f'"{name}": "{file.name}"' for name in names)
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{text}}}}}')
    for address in (f"{hub.url}/plain/zoo/sharded", "zoo/sharded"):
        with open_checkpoint(address) as checkpoint:
            assert list(checkpoint.tensors) == names
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "gone.safetensors"}}')
    for address in (f"{hub.url}/plain/zoo/sharded", "zoo/sharded"):
        with pytest.raises(IncompleteCheckpoint, match=r"no file gone\.safetensors there"):
            open_checkpoint(address)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"at": "GET /plain/.*safetensors", "kind": "whole"}, RangesRefused),
        ({"at": "GET /plain/.*model.safetensors$", "kind": "etag", "skip": 1}, SourceChanged),
        ({"at": "GET /plain/.*safetensors", "kind": "total", "skip": 1}, SourceChanged),
        ({"at": "GET /plain/.*model.safetensors$", "kind": "status", "status": 403}, AccessRefused),
        ({"at": "GET /plain/.*config", "kind": "status", "status": 500}, TransferFailed),
        ({"at": "GET /plain/.*(bin|safetensors)", "kind": "status", "status": 404}, CheckpointNotFound),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_what_a_web_server_does_wrong_is_one_clear_error(
    hub: Hub, fault: dict[str, Any], error: type[Exception]
) -> None:
    hub.fail(fault)
    with pytest.raises(error, match=f"{hub.url}/plain/zoo/a"):
        _read_all(f"{hub.url}/plain/zoo/a")


def test_a_file_without_an_etag_is_read_but_not_kept(hub: Hub) -> None:
    hub.fail({"at": "GET /plain", "kind": "no etag"})
    with open_checkpoint(f"{hub.url}/plain/zoo/a") as checkpoint:
        assert any("not kept for another run" in note for note in checkpoint.notes)
    assert _read_all(f"{hub.url}/plain/zoo/a") == EXPECTED
    hub.fail()
    with pytest.raises(NotCached):
        _read_all(f"{hub.url}/plain/zoo/a", Session(offline=True))


def test_no_such_file_on_a_web_server(hub: Hub) -> None:
    with pytest.raises(CheckpointNotFound, match="no such file"):
        open_checkpoint(f"{hub.url}/plain/zoo/a/other.safetensors")


def test_modelscope(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-token")
    assert _read_all("modelscope://zoo/a") == EXPECTED
    tokens = {(entry["port"], entry["token"]) for entry in hub.log()}
    assert tokens == {("hub", "Bearer ms-token"), ("cdn", None)}
    hub.forget()
    assert _read_all("zoo/a") == EXPECTED  # the same content is in the cache, whatever hub it came from
    assert not [entry for entry in hub.log() if entry["port"] == "cdn"]
    with pytest.raises(CheckpointNotFound, match="no such repository"):
        open_checkpoint("modelscope://zoo/nothing")
    hub.fail({"at": "repo/files", "kind": "status", "status": 401})
    with pytest.raises(AccessRefused, match="MODELSCOPE_API_TOKEN"):
        open_checkpoint("modelscope://zoo/a")


@pytest.mark.parametrize("address", ["s3://bucket/a", "s3://bucket/a/model.safetensors"])
def test_a_bucket(hub: Hub, bucket: Store, address: str) -> None:
    session = Session()
    assert _read_all(address, session) == EXPECTED
    assert session.budget.spent > 0
    assert _read_all(address, Session(offline=True)) == EXPECTED
    bucket.pipe("/bucket/a/model.safetensors", (ZOO / "a" / "model.safetensors").read_bytes())  # a version of its own
    with pytest.raises(BudgetExceeded):
        _read_all(address, Session(budget=1000))


def test_what_a_bucket_does_wrong_is_one_clear_error(hub: Hub, bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homolog.checkpoint.bucket.time.sleep", lambda seconds: None)
    with pytest.raises(CheckpointNotFound, match="nothing there"):
        open_checkpoint("s3://bucket/b")
    with open_checkpoint("s3://bucket/a") as checkpoint:
        bucket.pipe("/bucket/a/model.safetensors", b"short")
        with pytest.raises(SourceChanged, match="at size"):
            [checkpoint.read_rows(name) for name in checkpoint.tensors]

    def deny(*_: object, **__: object) -> bytes:
        raise PermissionError("Forbidden")

    def fail(*_: object, **__: object) -> bytes:
        raise OSError("the network is down")

    monkeypatch.setattr(Store, "cat_file", deny)
    with pytest.raises(AccessRefused, match="a login of the store's own"):
        open_checkpoint("s3://bucket/a")
    monkeypatch.setattr(Store, "cat_file", fail)
    with pytest.raises(TransferFailed, match="the network is down"):
        open_checkpoint("s3://bucket/a")
