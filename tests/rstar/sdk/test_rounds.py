"""``rstar.Rounds`` on a store: real stages of a tiny round, real drivers, and hostile requests."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from minio import Minio

from rstar import Rounds, RoundsError, RoundsInputError, SearchRecord, UnknownRoundError, WaitTimeoutError
from rstar.store.open import open_store
from tests.rstar.sdk.small_round import finished_round, small_store
from tests.support.local.bench import Bench, eventually


class ApiServer(http.server.BaseHTTPRequestHandler):
    """Answers as an API server with one round and the Secret of its store."""

    round: dict[str, Any]
    secret: dict[str, str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in self.secret.items()}
        known = {
            "evolutionrounds": {"items": [self.round], "metadata": {"resourceVersion": "1"}},
            "r1": self.round,
            "rstar-storage": {"data": encoded},
        }
        found = known.get(path.rpartition("/")[2])
        missing = {"kind": "Status", "reason": "NotFound", "message": f"{path} not found", "code": 404}
        answer = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ApiServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({"kind": "Config", "current-context": "c", **config}))
        yield path
        server.shutdown()


def test_a_round_of_a_namespace_reads_its_bucket_and_downloads_a_checkpoint_once(
    kubeconfig: Path, s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    client = Minio(
        s3["RSTAR_S3_ENDPOINT"].removeprefix("http://"),
        s3["AWS_ACCESS_KEY_ID"],
        s3["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )
    bucket = f"sdk-{uuid.uuid4().hex}"
    client.make_bucket(bucket)
    status = small_store(open_store(f"s3://{bucket}/lab"), tmp_path / "parts")
    ApiServer.round = {
        "metadata": {"name": "r1", "generation": 1},
        "spec": {"round": 1},
        "status": status.model_dump(mode="json", by_alias=True),
    }
    ApiServer.secret = {**s3, "RSTAR_STORE": f"s3://{bucket}/lab"}
    rounds = Rounds(namespace="lab", kubeconfig=kubeconfig, cache=tmp_path / "cache")
    assert rounds.wait("r1").phase == "Succeeded"
    one = rounds["r1"]
    assert [problem.id for problem, _ in one.trees()] == ["p0", "p1", "p2"]
    folder = one.checkpoint("policy")
    assert folder.is_relative_to(tmp_path / "cache")
    before = (folder / "config.json").stat()
    assert one.checkpoint("policy") == folder
    assert (folder / "config.json").stat() == before
    assert len(one.lineage()) == 5
    ApiServer.secret = {"RSTAR_STORE": "nowhere"}
    with pytest.raises(RoundsError, match="the store of namespace lab cannot be opened:"):
        one.results()


def test_rounds_are_listed_watched_and_waited_for_with_typed_statuses(bench: Bench) -> None:
    bench.rounds(2, evaluates=True)
    driver = bench.driver()
    rounds = Rounds(bench.store)
    eventually(lambda: "r2" in rounds)
    phases = [status.phase for status in rounds.watch("r1")]
    assert phases[-1] == rounds.wait("r2", timeout=120).phase == "Succeeded"
    assert driver.wait(60) == 0
    assert [one.name for one in rounds] == [one.name for one in rounds.list()] == ["r1", "r2"]
    assert rounds["r1"].metrics["rollout"] == {"coverage": 0.5}
    assert "<td>r2</td><td>Succeeded</td>" in rounds._repr_html_()


def test_a_running_round_is_suspended_resumed_and_cancelled(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang", "hang")
    driver = bench.driver()
    rounds = Rounds(bench.store)
    eventually(lambda: bench.started() == [("r1", "rollout")])
    with pytest.raises(WaitTimeoutError, match=r"has not ended within 0\.1 s; it goes on"):
        rounds.wait("r1", timeout=0.1)
    assert rounds.suspend("r1").changed
    assert not rounds["r1"].suspend().changed
    eventually(lambda: rounds["r1"].status.phase == "Suspended")
    assert rounds["r1"].resume().changed
    eventually(lambda: len(bench.started()) == 2)
    assert rounds.cancel("r1").changed
    assert rounds.wait("r1", timeout=120).phase == "Failed"
    assert driver.wait(60) == 0 or driver.returncode
    with pytest.raises(RoundsInputError, match="round r1 was cancelled"):
        rounds.resume("r1")


def test_a_round_without_a_driver_is_not_waited_for_for_ever(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("rollout", "hang")
    driver = bench.driver()
    eventually(lambda: bench.started() == [("r1", "rollout")])
    driver.kill()
    driver.wait(60)
    with pytest.raises(RoundsError, match=r"no driver is running in the store .*: submit it again"):
        Rounds(bench.store).wait("r1", timeout=120)


def test_logs_are_of_the_latest_attempt_of_another_stage_or_of_a_service(bench: Bench) -> None:
    bench.rounds(1)
    bench.script("select", "refuse")
    bench.run()
    one = Rounds(bench.store)["r1"]
    assert [line.text for line in one.logs()] == ["problems.jsonl:3: no question"]
    assert list(one.logs("rollout")) == []
    with pytest.raises(RoundsError, match="round r1 has not started stage evaluate"):
        list(one.logs("evaluate"))
    with pytest.raises(RoundsError, match="no ppm service has run"):
        list(one.logs(service="ppm"))
    with pytest.raises(RoundsInputError, match="not both"):
        list(one.logs("rollout", service="ppm"))


def test_a_wrong_document_or_file_is_an_error_with_every_fault_and_starts_nothing(bench: Bench) -> None:
    rounds = Rounds(bench.store)
    bench.rounds(1)
    document = yaml.safe_load(bench.file.read_text())
    document["spec"] |= {"rolout": {}, "verifier": 3}
    with pytest.raises(RoundsInputError, match="did you mean rollout") as caught:
        rounds.submit(document)
    assert str(caught.value).startswith("round r1: spec.")
    assert "spec.verifier" in str(caught.value)
    wrong: list[Any] = [{}, 3, {"spec": object()}, {"a": "\ud800"}, "nowhere.yaml"]
    for given in wrong:
        with pytest.raises(RoundsInputError):
            rounds.submit(given)
    with pytest.raises(RoundsInputError, match="name a YAML file"):
        rounds.submit()
    assert not (bench.store / ".rstar").exists()


def test_an_unknown_round_is_a_lookup_error_that_names_the_nearest(bench: Bench) -> None:
    bench.rounds(1)
    bench.run()
    rounds = Rounds(bench.store)
    assert "r9" not in rounds
    with pytest.raises(UnknownRoundError, match=r"no round .r9. in the store .*r1") as caught:
        _ = rounds["r9"]
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(UnknownRoundError):
        rounds.wait("r9")


@pytest.mark.parametrize("store", ["ftp://a/b", "s3://", 3, ["a"]])
def test_a_wrong_store_is_a_value_error(store: Any) -> None:
    with pytest.raises(RoundsInputError):
        Rounds(store)


def test_a_round_reads_its_trees_data_evaluation_models_and_lineage(tmp_path: Path) -> None:
    one = finished_round(tmp_path)
    searched = list(one.trees())
    assert [problem.id for problem, _ in searched] == ["p0", "p1", "p2"]
    assert all(isinstance(record, SearchRecord) for _, record in searched)
    assert [problem.id for problem, _ in one.trees("greedy")] == ["p0"]
    with pytest.raises(RoundsInputError, match="no trees of 'mcts': use one of rollout, greedy"):
        one.trees("mcts")
    assert [example.problem_id for example in one.examples()] == ["p0"]
    assert [group.problem_id for group in one.pairs()] == ["p0"]
    assert list(one.pairs("held_out")) == []
    with pytest.raises(RoundsInputError, match="split is train or held_out"):
        one.pairs("test")
    results = one.results()
    assert [(method.name, method.accuracy) for method in results] == [("greedy", 0.5)]
    assert [result.correct for result in results.problems("greedy")] == [True, False]
    assert results.to_arrow().column_names[:3] == ["method", "problem_id", "correct"]
    assert "<td>greedy</td>" in results._repr_html_()
    assert (one.checkpoint() / "config.json").read_text() == "{}"
    with pytest.raises(RoundsError, match="round r1 has trained no ppm: there are no pairs"):
        one.checkpoint("ppm")
    with pytest.raises(RoundsInputError, match="of the policy or the ppm"):
        one.checkpoint("base")  # type: ignore[arg-type]
    lineage = one.lineage()
    assert [entry.stage for entry in lineage] == ["evaluate", "train-ppm", "train-policy", "select", "rollout"]
    assert lineage[2].inputs == {"select": lineage[3].manifest}


def test_a_file_that_was_changed_by_hand_or_is_gone_is_one_sentence(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one = finished_round(tmp_path)
    trees = sorted(store.glob("rounds/r1/rollout/*/trees/*.parquet"))
    trees[0].write_bytes(b"damaged")
    with pytest.raises(RoundsError, match="does not match its manifest"):
        list(one.trees())
    trees[0].unlink()
    with pytest.raises(RoundsError, match="not in the store"):
        list(one.trees())
    [manifest] = store.glob("rounds/r1/select/*/manifest.json")
    manifest.unlink()
    for read in (lambda: list(one.examples()), one.lineage):
        with pytest.raises(RoundsError, match="not in the store"):
            read()


async def test_a_round_is_waited_for_from_a_running_loop(bench: Bench) -> None:
    bench.rounds(1)
    await asyncio.to_thread(bench.run)
    status = await asyncio.to_thread(Rounds(bench.store).wait, "r1", 60)
    assert status.phase == "Succeeded"
