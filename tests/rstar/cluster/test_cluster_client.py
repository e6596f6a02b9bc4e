"""Decisions of cluster commands on plain data, and a log stream that breaks off. No cluster is needed."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rstar.cluster.api import Cluster, ClusterError
from rstar.cluster.api_errors import explain_error, is_transient
from rstar.cluster.inputs import with_store_uris
from rstar.cluster.pod_logs import PodLogs, waiting_reason
from rstar.cluster.rounds import merge_patch, status_of, submission
from rstar.locations.attempts import select_attempts
from rstar.locations.location import AttemptName
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.status import RoundStatus
from tests.support.commands import PLAIN_TERMINAL

Data = dict[str, Any]


def a_round(**spec: Any) -> EvolutionRound:
    whole = {"round": 1, "baseModel": "store:base", "problems": {"uri": "store:p.jsonl"}, **spec}
    kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
    return EvolutionRound.model_validate({**kind, "metadata": {"name": "r1"}, "spec": whole})


def stored(**spec: Any) -> Data:
    """Return the object as a server stores it: with defaults filled in, and a key of a newer version."""
    full = a_round(**spec).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"metadata": {"name": "r1"}, "spec": {**full, "keyOfANewerVersion": 1}}


def test_a_new_round_is_created_as_it_was_written() -> None:
    made = submission(a_round(seed=3), None, "lab")
    assert made.verb == "created"
    assert made.body["metadata"] == {"name": "r1", "namespace": "lab"}
    assert made.body["spec"] == {
        "round": 1,
        "baseModel": "store:base",
        "problems": {"uri": "store:p.jsonl"},
        "seed": 3,
    }


def test_only_fields_with_another_meaning_are_changed() -> None:
    assert submission(a_round(lifecycle={"maxAttempts": 3}), stored(), "lab").verb == "unchanged"
    changed = submission(a_round(), stored(lifecycle={"maxAttempts": 7}, services={"policy": {"replicas": 2}}), "lab")
    assert changed.verb == "configured"
    assert changed.body == {"spec": {"lifecycle": {"maxAttempts": 3}, "services": {"policy": {"replicas": None}}}}


def test_suspend_stays_unless_the_file_sets_it() -> None:
    asked = stored(suspend=True)
    assert submission(a_round(), asked, "lab").verb == "unchanged"
    assert submission(a_round(suspend=False), asked, "lab").body == {"spec": {"suspend": False}}


def test_labels_of_the_file_are_added_and_others_stay() -> None:
    wanted = a_round()
    wanted = wanted.model_copy(update={"metadata": wanted.metadata.model_copy(update={"labels": {"team": "a"}})})
    found = stored()
    assert submission(wanted, found, "lab").body == {"metadata": {"labels": {"team": "a"}}}
    found["metadata"]["labels"] = {"team": "a", "other": "b"}
    assert submission(wanted, found, "lab").verb == "unchanged"


PLAIN_DATA = st.recursive(
    st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), PLAIN_DATA, max_size=3)


@given(OBJECTS, OBJECTS)
def test_a_patch_leads_from_one_to_the_other(before: Data, after: Data) -> None:
    def merged(target: Any, patch: Any) -> Any:  # RFC 7386, section 2
        if not isinstance(patch, dict):
            return patch
        target = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if value is None:
                target.pop(key, None)
            else:
                target[key] = merged(target.get(key), value)
        return target

    patch = merge_patch(before, after)
    assert merged(before, patch) == after
    assert (patch == {}) == (before == after)


def test_a_status_of_a_newer_operator_is_read_and_an_invalid_one_raises() -> None:
    assert status_of({"metadata": {"name": "r1"}}).phase == "Waiting"
    status = {"phase": "Running", "new": 1, "stages": [{"name": "select", "state": "running", "new": 2}]}
    assert status_of({"metadata": {"name": "r1"}, "status": status}).stages[0].state == "running"
    with pytest.raises(ValueError, match=r"round r1 .* phase: must be"):
        status_of({"metadata": {"name": "r1"}, "status": {"phase": "Dancing"}})


def test_local_paths_become_keys_of_their_contents(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "p.jsonl").write_text("{}\n")
    problems = {"uri": str(tmp_path / "p.jsonl"), "limit": 3}
    given_round = a_round(baseModel=f"{tmp_path}/base/", problems=problems, evaluate={"problems": problems})
    moved, inputs = with_store_uris(given_round)
    assert moved.spec.problems.uri == moved.spec.evaluate.problems.uri  # type: ignore[union-attr]
    assert moved.spec.problems.uri.endswith("/p.jsonl")
    assert moved.spec.problems.limit == 3
    assert sorted(f"store:{item.key}" for item in inputs) == sorted([moved.spec.base_model, moved.spec.problems.uri])
    (tmp_path / "p.jsonl").write_text("{}\n{}\n")
    assert with_store_uris(given_round)[0].spec.problems.uri != moved.spec.problems.uri
    assert with_store_uris(a_round()) == (a_round(), [])


def test_the_checkpoint_of_the_rollout_is_moved_and_an_endpoint_is_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    moved, [item] = with_store_uris(a_round(rollout={"policy": {"model": str(tmp_path)}, "shardSize": 3}))
    assert moved.spec.rollout.policy is not None
    assert moved.spec.rollout.policy.model == f"store:{item.key}"
    assert moved.spec.rollout.shard_size == 3
    (tmp_path / "few.txt").write_text("{question}")
    policy = {"endpoint": "http://h/v1", "name": "m", "tokenizer": str(tmp_path)}
    prompted, inputs = with_store_uris(a_round(rollout={"promptFile": str(tmp_path / "few.txt"), "policy": policy}))
    rollout = prompted.spec.rollout
    assert [rollout.prompt_file, rollout.policy and rollout.policy.tokenizer] == [f"store:{i.key}" for i in inputs]
    given = a_round(rollout={"policy": {"endpoint": "http://h/v1", "name": "m"}})
    assert with_store_uris(given) == (given, [])


def test_a_given_reward_model_is_moved_and_keeps_its_convention(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = {"uri": str(tmp_path), "convention": "skywork-prm"}
    moved, [item] = with_store_uris(a_round(preferenceModel={"model": model}))
    assert moved.spec.preference_model.model is not None
    assert moved.spec.preference_model.model.model_dump() == {**model, "uri": f"store:{item.key}"}


def test_data_sets_of_a_list_are_moved_too_and_keep_the_names_in_their_ids(tmp_path: Path) -> None:
    for name in ("aime24", "amc23"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text(json.dumps({"id": 0, "question": name, "answer": "1"}))
    sets = [{"uri": str(tmp_path / name / "test.jsonl"), "limit": 3} for name in ("aime24", "amc23")]
    moved, inputs = with_store_uris(a_round(problems=[*sets, {"uri": "hf:a/b"}]))
    assert len(inputs) == 2
    assert [source.name for source in moved.spec.problems.sources()] == ["aime24/test", "amc23/test", "a/b"]
    assert [source.uri.partition(":")[0] for source in moved.spec.problems.sources()] == ["store", "store", "hf"]
    assert [one.limit for one in moved.spec.problems.sets] == [3, 3, None]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ClusterError("x cannot list", 403, "Forbidden"), "x cannot list; ask your admin for the role edit"),
        (ClusterError("exceeded quota: q", 403, "Forbidden"), "exceeded quota: q"),
        (ClusterError("Unauthorized", 401, "Unauthorized"), "log in to it again"),
        (ClusterError("GET /x: 404 Not Found", 404), "install charts/rstar"),
        (ClusterError('namespaces "lab" not found', 404, "NotFound"), "there is no namespace lab"),
        (ClusterError("seed cannot change", 422, "Invalid"), "seed cannot change"),
    ],
)
def test_errors_are_explained_with_their_remedy(error: ClusterError, sentence: str) -> None:
    shown = explain_error(error, "lab", role="edit")
    assert sentence in shown
    assert "quota" not in shown or "admin" not in shown
    assert not is_transient(error)


@pytest.mark.parametrize("code", [0, 429, 500, 503])
def test_errors_that_may_pass_are_transient(code: int) -> None:
    assert is_transient(ClusterError("later", code))


def test_the_attempt_that_started_last_is_selected_unless_another_is_named() -> None:
    def started(stage: str, number: int, minute: int) -> Data:
        return {"stage": stage, "number": number, "state": "failed", "startedAt": f"2030-01-01T00:{minute:02}:00Z"}

    attempts = [started("rollout", 1, 3), started("rollout", 2, 4), started("select", 1, 5), started("select", 2, 6)]
    # The rollout was repeated after the selection: the attempt that started last is not of the last stage.
    attempts.append(started("rollout", 3, 9))
    status = RoundStatus.model_validate({"phase": "Running", "attempts": attempts})
    assert select_attempts(status, None, None) == [AttemptName("rollout", 3)]
    assert select_attempts(status, "select", None) == [AttemptName("select", 2)]
    assert select_attempts(status, None, 1) == [AttemptName("rollout", 1)]
    assert select_attempts(status, "select", 9) == []
    assert select_attempts(status, None, None, every=True)[-1] == AttemptName("rollout", 3)
    assert len(select_attempts(status, "rollout", None, every=True)) == 3
    assert select_attempts(RoundStatus(phase="Waiting"), None, None) == []


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        ({}, "Pending"),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "no GPU"}]},
            "no GPU",
        ),
        (
            {"phase": "Pending", "containerStatuses": [{"name": "pytorch", "state": {"waiting": {"reason": "Pull"}}}]},
            "Pull",
        ),
        ({"phase": "Pending", "containerStatuses": [{"name": "pytorch", "state": {"terminated": {}}}]}, ""),
        ({"phase": "Running"}, ""),
        ({"phase": "Failed"}, ""),
    ],
)
def test_a_pending_pod_gives_its_reason(status: Data, waiting: str) -> None:
    assert waiting_reason({"metadata": {"name": "p"}, "status": status}, "pytorch") == waiting


class BreakingServer(http.server.BaseHTTPRequestHandler):
    """An API server whose log streams break off after every line; the pod ends when all lines have been sent."""

    protocol_version = "HTTP/1.1"
    lines = (
        b"2030-01-01T00:00:00.1Z one\n",
        b"2030-01-01T00:00:00.12Z two\n2030-01-01T00:00:00.12Z two\n",
        b"2030-01-01T00:00:00.5Z \n",
        b"2030-01-01T00:00:01Z three\n",
    )
    asked: list[Data]

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        over = len(self.asked) > len(self.lines)
        item = {"metadata": {"name": "p"}, "status": {"phase": "Succeeded" if over else "Running"}}
        if not path.endswith("/log"):
            listed = {"items": [item], "metadata": {"resourceVersion": "1"}}
            self._answer(json.dumps(item if path.endswith("/p") else listed).encode(), whole=True)
            return
        self.asked.append(query)
        since = query.get("sinceTime", [""])[0].removesuffix("Z").encode()
        shown = b"".join(line for line in self.lines[: len(self.asked)] if line >= since)
        self._answer(shown, whole=over)

    def _answer(self, body: bytes, *, whole: bool) -> None:
        """Answer in one chunk; without the last, empty one the connection has broken off."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if whole else b""))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def breaking_server() -> Iterator[str]:
    BreakingServer.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreakingServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_log_that_breaks_off_is_resumed_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar.cluster.pod_logs.POLL_SECONDS", 0.05)
    with breaking_server() as url:
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        kubeconfig.write_text(yaml.safe_dump({"kind": "Config", "current-context": "c", **config}))
        logs = PodLogs(Cluster.connect(kubeconfig), "lab", "a=b", ("pytorch",), print)
        assert [text for _, text in logs.follow(lambda: True, last=7)] == ["one", "two", "two", "", "three"]
    assert BreakingServer.asked[0]["tailLines"] == ["7"]
    assert "tailLines" not in BreakingServer.asked[1]
    assert BreakingServer.asked[1]["sinceTime"] == ["2030-01-01T00:00:00Z"]
    assert BreakingServer.asked[-1]["sinceTime"] == ["2030-01-01T00:00:01Z"]


def test_without_the_kubernetes_library_one_sentence_names_the_package_to_install() -> None:
    code = "import sys; sys.modules['kubernetes'] = None; from rstar.cli.main import run; sys.argv = ['rstar', 'status', '-n', 'lab']; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **PLAIN_TERMINAL}, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rstar: clusters need one more library: pip install 'rstar-math[cluster]'\n"
