"""The cache takes events in any order; passes over a round never overlap; failed passes are repeated."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import kopf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_operator.cache import Cache
from rstar_operator.configuration import ConfigurationError, load_configuration
from rstar_operator.trainjob import TrainJobBackend
from rstar_operator.watching import Watcher
from rstar_operator.workqueue import WorkQueue

from rstar.cluster.api import PODS, ROUNDS, ClusterError, Json, Kind, NotFoundError
from tests.support.operator.simulated import round_body


def body(name: str, version: int, uid: str = "u") -> Json:
    plain = round_body(name)
    return {**plain, "metadata": {"name": name, "namespace": "lab", "uid": uid, "resourceVersion": str(version)}}


def pod(name: str, version: int) -> Json:
    labels = {"rstar.dev/round": "r1"}
    head = {"name": name, "namespace": "lab", "uid": name, "resourceVersion": str(version), "labels": labels}
    return {"kind": "Pod", "metadata": head}


@given(st.permutations(list(range(1, 8))))
def test_whatever_the_order_of_events_the_newest_version_stays(order: list[int]) -> None:
    cache = Cache()
    for version in order:
        cache.put(ROUNDS, body("r1", version))
    snapshot = cache.snapshot(("lab", "r1"))
    assert snapshot is not None
    assert snapshot.round["metadata"]["resourceVersion"] == "7"


def test_a_full_list_removes_deleted_objects_and_keeps_objects_newer_than_the_list() -> None:
    cache = Cache()
    cache.put(ROUNDS, body("r1", 1))
    for name, version in (("gone", 3), ("kept", 4), ("newer", 9)):
        cache.put(PODS, pod(name, version))
    changed = cache.replace(PODS, "lab", [pod("kept", 4)], "5")
    assert changed == {("lab", "r1")}
    snapshot = cache.snapshot(("lab", "r1"))
    assert snapshot is not None
    assert [p["metadata"]["name"] for p in snapshot.pods] == ["kept", "newer"]


def test_a_late_deletion_does_not_remove_the_next_object_of_that_name() -> None:
    cache = Cache()
    cache.put(ROUNDS, body("r1", 5, uid="new"))
    cache.remove(ROUNDS, body("r1", 4, uid="old"))
    assert cache.rounds() == {("lab", "r1")}


def test_a_change_of_a_round_affects_the_next_round() -> None:
    cache = Cache()
    follower = body("r2", 1)
    follower["spec"] |= {"round": 2, "previousRound": "r1"}
    cache.put(ROUNDS, follower)
    assert cache.affected(ROUNDS, body("r1", 2)) == {("lab", "r1"), ("lab", "r2")}


async def test_passes_over_one_round_never_overlap_and_the_last_change_is_seen() -> None:
    running = threading.Lock()
    changes = [0]
    last_seen = asyncio.Event()
    overlaps = []
    loop = asyncio.get_running_loop()

    def one(_: tuple[str, str]) -> timedelta | None:
        overlaps.append(not running.acquire(blocking=False))
        if changes[0] == 200:
            loop.call_soon_threadsafe(last_seen.set)
        running.release()
        return None

    queue = WorkQueue(one, limit=4)
    for _ in range(200):
        changes[0] += 1
        queue.add(("lab", "r1"))
        await asyncio.sleep(0)
    await asyncio.wait_for(last_seen.wait(), 30)
    await queue.close()
    assert not any(overlaps)


async def test_a_failed_pass_is_repeated() -> None:
    tries = asyncio.Event()
    count = [0]
    loop = asyncio.get_running_loop()

    def one(_: tuple[str, str]) -> timedelta | None:
        count[0] += 1
        if count[0] < 3:
            raise ClusterError("away")
        loop.call_soon_threadsafe(tries.set)
        return None

    queue = WorkQueue(one, limit=1)
    queue.add(("lab", "r1"))
    await asyncio.wait_for(tries.wait(), 30)
    await queue.close()


async def test_a_pass_that_does_not_end_delays_the_end_only_for_the_given_time() -> None:
    started, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def one(_: tuple[str, str]) -> timedelta | None:
        loop.call_soon_threadsafe(started.set)
        release.wait(120)
        return None

    queue = WorkQueue(one, limit=1)
    queue.add(("lab", "r1"))
    queue.add(("lab", "r2"))  # It waits for a thread, and starts no more.
    await asyncio.wait_for(started.wait(), 30)
    try:
        await asyncio.wait_for(queue.close(seconds=0.1), 30)
    finally:
        release.set()


class _WithoutTrainer:
    """A cluster on which the trainer is not installed."""

    def list_at(self, kind: Kind, namespace: str, selector: str = "") -> tuple[list[Json], str]:
        if kind in TrainJobBackend.kinds:
            raise NotFoundError("the server could not find the requested resource", 404)
        return [], "1"


def test_an_operator_waits_for_the_kinds_of_its_training_backend_and_names_what_is_missing() -> None:
    watcher = Watcher(_WithoutTrainer(), None, None, Cache(TrainJobBackend.kinds), (), workers=1)  # type: ignore[arg-type]
    wanted = "there is no CustomResourceDefinition of trainjobs.trainer.kubeflow.org: install it"
    with pytest.raises(kopf.TemporaryError, match=wanted):
        asyncio.run(watcher._start())
    without = Watcher(_WithoutTrainer(), None, None, Cache(), (), workers=1)  # type: ignore[arg-type]
    assert without._resync() == set()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("images: {policy: a, ppm: b, search: c}", "images.jobs: missing"),
        ("image: x", "unknown key; did you mean images?"),
        ("{", "is not YAML"),
    ],
)
def test_a_bad_configuration_gives_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "operator.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence.replace("?", r"\?")):
        load_configuration(path)
