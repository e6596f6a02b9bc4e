"""Names on the hub: their form, their commits, and that a round uses one commit whatever happens to the branch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rstar.hub import commit_of, snapshot
from rstar.hub_name import HubKind, HubName, read_hub_name
from rstar.models.model_folder import model_folder
from rstar.readers import read_hub
from rstar.rounds.problems import read_problems_of
from rstar.rounds.problems_spec import ProblemsSpec
from rstar.store.folder_store import FolderStore
from rstar.store.revisions import is_on_hub, pinned
from rstar.store.store import Store
from tests.support.fake_hub import FakeHub, running_hub, use_hub

MODEL = "hf:org/model"
SET = "hf:org/set/main"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one model and one data set."""
    with running_hub() as hub:
        use_hub(hub.url, tmp_path / "hub-cache", monkeypatch)
        hub.push("models", "org/model", {"config.json": b'{"first": 1}', "weights": b"1" * 20_000})
        hub.push("datasets", "org/set", data_set("1 + 1?"))
        yield hub


def data_set(question: str) -> dict[str, bytes]:
    card = "---\nconfigs:\n- config_name: main\n  data_files: main.jsonl\n- config_name: other\n  data_files: o.jsonl\n---\n"
    row = json.dumps({"id": "7", "question": question, "answer": "2"}).encode()
    return {"README.md": card.encode(), "main.jsonl": row, "o.jsonl": b'{"question": "other", "answer": "3"}'}


def offline(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(hub.url, tmp_path / "hub-cache", monkeypatch, offline=True)


@pytest.mark.parametrize(
    ("uri", "kind", "name"),
    [
        ("hf:Qwen/Qwen2.5-Math-1.5B", "model", HubName("Qwen/Qwen2.5-Math-1.5B")),
        ("hf:gpt2@v1", "model", HubName("gpt2", revision="v1")),
        ("hf:org/set@refs/convert/parquet", "dataset", HubName("org/set", revision="refs/convert/parquet")),
        ("org/set/main@v1", "dataset", HubName("org/set", "main", "v1")),
    ],
)
def test_a_name_has_a_repository_a_configuration_and_a_revision(uri: str, kind: HubKind, name: HubName) -> None:
    assert read_hub_name(uri, kind) == name
    assert read_hub_name(name.uri, kind) == name


@pytest.mark.parametrize("uri", ["hf:", "hf:a/b/c", "hf:a/b@", "hf:a/b@x y", "hf:a/b@v1@v2", "hf:../b", "hf:a//b"])
def test_a_malformed_name_of_a_model_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"on the hub|after @"):
        read_hub_name(uri, "model")


def test_an_object_is_created_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda i: store.create("a/b.json", b"%d" % i), range(8)))
    assert created.count(True) == 1
    assert store.read("a/b.json") == b"%d" % created.index(True)
    assert list(store.list("")) == ["a/b.json"]


def test_a_round_keeps_its_commit_when_the_branch_moves(hub: FakeHub, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    first = hub.branches["models", "org/model", "main"]
    assert pinned(MODEL, "model", store, "r1") == f"{MODEL}@{first}"
    second = hub.push("models", "org/model", {"config.json": b'{"second": 2}'})
    assert pinned(MODEL, "model", store, "r1") == f"{MODEL}@{first}"
    assert pinned(f"{MODEL}@main", "model", store, "r1") == f"{MODEL}@{first}"
    assert pinned(MODEL, "model", store, "r2") == f"{MODEL}@{second}"
    assert pinned(f"{MODEL}@{second}", "model", store, "r1") == f"{MODEL}@{second}"
    folder = model_folder(MODEL, str(store.folder), tmp_path / "cache", "r1")
    assert (folder / "config.json").read_bytes() == b'{"first": 1}'
    assert (model_folder(MODEL, None, tmp_path / "cache") / "config.json").read_bytes() == b'{"second": 2}'


def test_of_many_programs_that_start_at_once_all_use_one_commit(hub: FakeHub, store: Store) -> None:
    def start(number: int) -> str:
        hub.push("models", "org/model", {"config.json": b"%d" % number})
        return pinned(MODEL, "model", store, "r1")

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(start, range(6)))) == 1


def test_a_model_and_a_data_set_of_the_same_name_have_their_own_commits(hub: FakeHub, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    other = hub.push("datasets", "org/model", data_set("?"))
    assert pinned(MODEL, "dataset", store, "r1") == f"{MODEL}@{other}"
    assert pinned(MODEL, "model", store, "r1") != f"{MODEL}@{other}"


def test_offline_the_cached_commit_counts(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = read_hub_name(MODEL, "model")
    first = commit_of(name, "model")
    folder = snapshot(name, "model")
    hub.push("models", "org/model", {"config.json": b"{}"})
    offline(hub, tmp_path, monkeypatch)
    hub.requests.clear()
    assert commit_of(name, "model") == first
    assert snapshot(name, "model") == folder
    assert not hub.requests


def test_without_cache_and_network_one_sentence_says_so(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = f"{MODEL}@{hub.branches['models', 'org/model', 'main']}"
    offline(hub, tmp_path, monkeypatch)
    for uri in (MODEL, fixed):
        with pytest.raises(
            ValueError, match=r"is not .* in the hub's local cache, and the hub cannot be reached"
        ) as caught:
            model_folder(uri, None, tmp_path / "cache")
        assert "\n" not in str(caught.value)


def test_a_damaged_file_of_the_hubs_cache_is_fetched_again(hub: FakeHub) -> None:
    name = read_hub_name(MODEL, "model")
    folder = snapshot(name, "model")
    for file in ("weights", "config.json"):
        (folder / file).resolve().write_bytes(b"damaged")
    assert snapshot(name, "model") == folder
    assert (folder / "weights").read_bytes() == b"1" * 20_000
    assert (folder / "config.json").read_bytes() == b'{"first": 1}'


def test_a_file_that_the_hub_sends_damaged_is_refused(hub: FakeHub) -> None:
    hub.broken["weights"] = b"2" * 20_000
    with pytest.raises(ValueError, match="weights does not match the hub's checksum"):
        snapshot(read_hub_name(MODEL, "model"), "model")


@pytest.mark.parametrize(
    ("uri", "reason"), [(f"{MODEL}@v9", "no such revision"), ("hf:org/none", "the hub does not know it")]
)
def test_an_unknown_name_is_refused_with_the_reason(hub: FakeHub, tmp_path: Path, uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pinned(uri, "model", FolderStore(tmp_path), "r1")


def test_a_data_set_is_read_at_its_commit_and_its_ids_do_not_depend_on_it(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    spec = ProblemsSpec.model_validate({"sets": [{"uri": SET}, {"uri": "hf:org/set/other"}]})

    def read() -> list[tuple[str, str]]:
        reading = read_problems_of(spec, store, tmp_path, lambda uri: pinned(uri, "dataset", store, "r1"))
        return [(problem.id, problem.question) for problem in reading.problems]

    first = read()
    assert first[0] == ("main/7", "1 + 1?")
    hub.push("datasets", "org/set", data_set("2 + 2?"))
    assert read() == first
    assert read_hub("org/set/main")[0].question == "2 + 2?"
    assert len(list(store.list("rounds/r1/revisions/"))) == 1, "configurations share a commit"
    offline(hub, tmp_path, monkeypatch)
    assert read() == first


def test_the_local_folder_of_a_data_set_has_no_commit(tmp_path: Path) -> None:
    assert not is_on_hub(f"hf:{tmp_path}", "dataset")
    assert pinned(f"hf:{tmp_path}", "dataset", FolderStore(tmp_path), "r1") == f"hf:{tmp_path}"
