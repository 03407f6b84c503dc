"""Repositories of the hub: the real client library and homolog against the same server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.remote.conftest import Hub, run_homolog
from tests.remote.server import TOKEN

from homolog import compare, inspect, open_checkpoint
from homolog.checkpoint.session import Session
from homolog.errors import (
    AccessRefused,
    BudgetExceeded,
    CheckpointError,
    CheckpointMoved,
    CheckpointNotFound,
    NotCached,
)
from homolog.examination.alone import look_at_checkpoint
from homolog.roles.resolve import resolve

ZOO = Path(__file__).parents[1] / "zoo"


def test_the_server_speaks_to_the_real_client(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    info = api.model_info("zoo/a")
    assert info.sha
    assert {sibling.rfilename for sibling in info.siblings or ()} == {path.name for path in (ZOO / "a").iterdir()}
    sizes = {item.path: item.size for item in api.list_repo_tree("zoo/a") if hasattr(item, "size")}
    assert sizes == {path.name: path.stat().st_size for path in (ZOO / "a").iterdir()}
    config = api.hf_hub_download("zoo/a", "config.json", cache_dir=tmp_path)
    assert Path(config).read_bytes() == (ZOO / "a" / "config.json").read_bytes()


def test_a_repository_reads_as_its_files(hub: Hub) -> None:
    with open_checkpoint("zoo/a") as remote, open_checkpoint(ZOO / "a") as local:
        assert dict(remote.tensors) == dict(local.tensors)
        assert dict(remote.config) == dict(local.config)
        assert [str(path) for path in remote.files] == ["zoo/a/model.safetensors"]
        for name in local.tensors:
            np.testing.assert_array_equal(remote.read_rows(name), local.read_rows(name))
        assert remote.meter.hexdigest() == local.meter.hexdigest()
        assert remote.meter.sizes[remote.files[0]] == local.files[0].stat().st_size
    redirects = [entry for entry in hub.log() if entry["port"] == "hub" and "model.safetensors" in entry["path"]]
    assert len(redirects) == 1


def test_the_verdict_is_that_of_the_files(hub: Hub) -> None:
    said: list[str] = []
    remote = compare("zoo/a", "hf://zoo/a-zh-1x@main", announce=said.append).to_json()
    local = compare(ZOO / "a", ZOO / "a-zh-1x").to_json()
    assert {key for key in local if local[key] != remote[key]} == {"a", "b", "derivation", "provenance", "run"}
    # what takes whole tensors to see is not looked for over a network
    assert remote["derivation"]["operations"] == local["derivation"]["operations"]
    assert remote["a"]["read"]["bytes"] <= local["a"]["read"]["bytes"]
    assert remote["run"]["fetched"]["bytes"] == sum(entry["sent"] for entry in hub.log())
    assert remote["run"]["fetched"]["requests"] == len(hub.log())
    assert len(said) == 2
    assert said[0].startswith("A: zoo/a: fetching ")
    hub.forget()
    again = compare("zoo/a", "hf://zoo/a-zh-1x@main").to_json()
    assert again == remote | {"run": again["run"]}
    assert not [entry for entry in hub.log() if entry["port"] == "cdn"]
    hub.forget()
    offline = compare("zoo/a", "hf://zoo/a-zh-1x@main", offline=True).to_json()
    assert offline == remote | {"run": offline["run"]}
    assert hub.log() == []


def test_equal_content_is_told_by_the_digests_that_the_hub_states(hub: Hub) -> None:
    assert compare("zoo/b", "zoo/b@v1.0").verdict.verdict == "identical"


def test_a_login_reaches_the_hub_and_nobody_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.control(private=["zoo/a"], gated=["zoo/a"])
    with open_checkpoint("zoo/a") as checkpoint:
        checkpoint.read_rows(
            "lm_head.weight" if "lm_head.weight" in checkpoint.tensors else next(iter(checkpoint.tensors))
        )
    tokens = {entry["port"]: {e["token"] for e in hub.log() if e["port"] == entry["port"]} for entry in hub.log()}
    assert tokens == {"hub": {f"Bearer {TOKEN}"}, "cdn": {None}}


@pytest.mark.parametrize(
    ("settings", "address", "error", "said"),
    [
        ({}, "zoo/nothing", CheckpointNotFound, "no such repository, or a private one"),
        ({"private": ["zoo/a"]}, "zoo/a", CheckpointNotFound, "hf auth login"),
        ({}, "zoo/a@v9", CheckpointNotFound, "no such branch, tag or commit"),
        ({"gated": ["zoo/a"]}, "zoo/a", AccessRefused, "a gated repository"),
        ({"disabled": ["zoo/a"]}, "zoo/a", AccessRefused, "disabled"),
        ({"moved": {"zoo/old": "zoo/a"}}, "zoo/old", CheckpointMoved, "its new name, zoo/a"),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(
    hub: Hub, settings: dict[str, object], address: str, error: type[CheckpointError], said: str
) -> None:
    hub.control(**settings)
    with pytest.raises(error, match=said):
        open_checkpoint(address)


def test_a_wrong_token_is_said_to_be_one(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(AccessRefused, match="a token that the hub does not know"):
        open_checkpoint("zoo/a")


def test_a_path_of_this_machine_wins_and_the_result_says_so(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "a").symlink_to(ZOO / "b")
    monkeypatch.chdir(tmp_path)
    with open_checkpoint("zoo/a") as checkpoint:
        assert any("the path zoo/a of this machine was read" in note for note in checkpoint.notes)
    assert hub.log() == []


@pytest.mark.parametrize("limit", [0, 1000, 170_000, 300_000, 600_000, 2_000_000])
def test_a_budget_is_never_exceeded(hub: Hub, limit: int) -> None:
    try:
        comparison = compare("zoo/a", "zoo/b", budget=limit)
    except BudgetExceeded:
        assert limit <= 170_000
    else:
        verdict = comparison.verdict
        assert verdict.verdict == ("independent" if limit == 2_000_000 else "inconclusive")
        assert limit == 2_000_000 or "budget" in verdict.sentence
    assert sum(entry["sent"] for entry in hub.log()) <= limit


def test_a_budget_that_shows_a_relation_is_enough(hub: Hub) -> None:
    comparison = compare("zoo/a", "zoo/a-zh-1x", budget=700_000)
    assert comparison.verdict.verdict == "related"
    assert any("layers were read" in note for note in comparison.b.notes)
    assert sum(entry["sent"] for entry in hub.log()) <= 700_000


def test_offline_without_a_cache_is_an_error(hub: Hub) -> None:
    with pytest.raises(NotCached, match="nothing of it is in the cache"):
        open_checkpoint("zoo/a", Session(offline=True))
    with open_checkpoint("zoo/a"):
        pass
    with (
        open_checkpoint("zoo/a", Session(offline=True)) as checkpoint,
        pytest.raises(NotCached, match="are not in the cache"),
    ):
        [checkpoint.read_rows(name) for name in checkpoint.tensors]


def test_the_command_line_reads_addresses(hub: Hub) -> None:
    done = run_homolog("compare", "zoo/a", "zoo/b")
    assert done.returncode == 0
    assert [line[:16] for line in done.stderr.splitlines()] == ["A: zoo/a: fetchi", "B: zoo/b: fetchi"]


def test_a_budget_without_room_for_the_headers_is_an_error(hub: Hub) -> None:
    done = run_homolog("inspect", "zoo/a", "--budget", "80kB")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "at budget" in done.stderr


def test_inspecting_fetches_in_few_requests(hub: Hub) -> None:
    with open_checkpoint("zoo/a") as checkpoint, open_checkpoint(ZOO / "a") as local:
        remote, expected = inspect(checkpoint).to_json(), inspect(local).to_json()
    assert {key for key in expected if remote[key] != expected[key]} <= {"id", "notes"}
    assert len(hub.log()) <= 9


def test_a_model_that_is_too_much_to_fetch_is_not_set_beside_itself(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homolog.examination.alone._MOST_FETCHED", 1000)
    with open_checkpoint("zoo/a") as checkpoint:
        found = look_at_checkpoint(checkpoint, resolve(checkpoint))
    assert found.copies.absent is not None
    assert found.copies.absent.endswith("would have to be fetched for it: --values fetches the whole model")
    assert found.sentences == ()
