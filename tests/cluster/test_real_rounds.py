"""Four rounds with real processes: charts, operators, jobs, services and stages on a real control plane with MinIO.

No pod is scripted. A node is lost on the way. ``rstar run`` runs the same rounds on a folder and writes the same bytes. Four
rounds, twice, start torch some fifty times: eight and a half minutes on two cores, by far the longest test here.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet, always_real

from rstar.cluster.api import DEPLOYMENTS, PODS
from rstar.rounds.manifest import Manifest, digest_of, read_manifest
from rstar.rounds.observed import STAGES
from rstar.rounds.status import RoundStatus, StageStatus
from rstar.store.s3_store import S3Store
from tests.support.cluster import real_rounds
from tests.support.cluster.chart_operator import forbidden_requests
from tests.support.cluster.pods import needs_root, wait_until
from tests.support.cluster.real_rounds import PROBLEMS, ROUNDS_APPLIED, SHARD, Observations, Tenant

pytestmark = [needs_root, pytest.mark.slow, pytest.mark.timeout(real_rounds.SECONDS + 600)]

NAMES = [f"r{number}" for number in range(1, ROUNDS_APPLIED + 1)]


@dataclass(frozen=True)
class Results:
    """The results on the cluster and on this machine, and the observations while the rounds ran."""

    tenant: Tenant
    store: S3Store
    folder: Path
    seen: Observations
    terminal: str

    def status(self, name: str) -> RoundStatus:
        """Return the last status of a round."""
        return self.seen.statuses[name]

    def manifests(self, name: str) -> dict[str, Manifest]:
        """Return a round's manifests by stage."""
        outputs = {s.name: s.output.manifest for s in self.status(name).stages if s.output}
        return {stage: read_manifest(self.store.read(key), key) for stage, key in outputs.items()}


@pytest.fixture(scope="module")
def results(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Install everything and run all rounds, on the cluster and, at the same time, on this machine."""
    folder = tmp_path_factory.mktemp("real")
    here, rounds = folder / "store", folder / "rounds.yaml"
    rounds.write_text(real_rounds.tiny_rounds(ROUNDS_APPLIED))
    real_rounds.make_games(here)
    base_model = real_rounds.start_base_model(here)
    admin, namespace = f"rstar-{uuid.uuid4().hex[:6]}", f"lab-{uuid.uuid4().hex[:6]}"
    kubeconfig, seen, watched = testbed.kubeconfig, Observations(), folder / "terminal"
    try:
        testbed.kubectl("create", "namespace", admin)
        with (
            Kubelet(kubeconfig, always_real, namespace=admin, folder=folder / "admin"),
            Kubelet(kubeconfig, always_real, namespace=namespace, folder=folder / "tenant"),
        ):
            real_rounds.install_operator(testbed, admin)
            tenant = real_rounds.set_up_tenant(testbed, admin, namespace)
            real_rounds.install_executors(tenant)
            real_rounds.wait_for_installation(tenant)
            assert base_model.wait() == 0
            store = real_rounds.fill_store(tenant, here)
            with (
                real_rounds.local_run(here, rounds, folder / "local.log") as local_run,
                real_rounds.kubectl_watch(tenant, watched),
            ):
                tenant.kubectl("apply", "-f", str(rounds))
                real_rounds.wait_for_rounds(tenant, seen, NAMES)
                assert local_run.wait() == 0, (folder / "local.log").read_text()
            yield Results(tenant, store, here, seen, watched.read_text())
    finally:
        base_model.kill()
        for release in ("tenant", "rstar"):
            testbed.helm("uninstall", release, "-n", admin, "--ignore-not-found")
        testbed.kubectl("delete", "namespace", admin, namespace, "--wait=false", "--ignore-not-found")


def test_every_round_goes_through_all_stages(results: Results) -> None:
    for name in NAMES:
        status = results.status(name)
        assert [(stage.name, stage.state) for stage in status.stages] == [(stage.value, "done") for stage in STAGES]
        assert {c.type: c.status for c in status.conditions if not c.type.startswith("Stage")} == {
            "Ready": "True",
            "Succeeded": "True",
            "Failed": "False",
            "Suspended": "False",
            "PPMGuides": "True" if name == "r3" else "False",
        }
        assert all(c.observed_generation == status.observed_generation == 1 for c in status.conditions)
        solved = stage_of(status, "rollout").metrics
        assert status.solved_percent == f"{100 * solved['solved'] / solved['problems']:.1f}"
        assert solved["problems"] == PROBLEMS
        assert solved["failed"] == 0


def stage_of(status: RoundStatus, name: str) -> StageStatus:
    return next(stage for stage in status.stages if stage.name == name)


def test_rstar_run_writes_the_same_manifests_byte_for_byte(results: Results) -> None:
    keys = sorted(key for key in results.store.list("rounds/") if key.endswith("/manifest.json"))
    here = sorted(str(path.relative_to(results.folder)) for path in results.folder.glob("rounds/**/manifest.json"))
    assert keys == here
    assert len(keys) == len(STAGES) * len(NAMES)
    for key in keys:
        assert results.store.read(key) == (results.folder / key).read_bytes(), key


def test_all_files_that_the_manifests_list_are_in_the_tenants_folder_of_minio(results: Results) -> None:
    assert results.store.uri == f"s3://{results.tenant.namespace}/{results.tenant.namespace}"
    for name in NAMES:
        for stage, manifest in results.manifests(name).items():
            output = stage_of(results.status(name), stage).output
            assert output is not None
            assert manifest.outputs or stage == "evaluate"
            for file in manifest.outputs:
                key = f"{output.manifest.removesuffix('manifest.json')}{file.path}"
                assert digest_of(results.store.read(key)) == file.sha256, key


def test_a_lost_node_costs_an_attempt_and_no_stored_shard(results: Results) -> None:
    status = results.status("r1")
    first, second, *others = status.attempts
    assert (first.stage, first.number, first.state, first.exit_code) == ("rollout", 1, "failed", 137)
    assert (second.stage, second.number, second.state) == ("rollout", 2, "succeeded")
    assert [(a.stage, a.number) for a in others] == [(stage.value, 1) for stage in STAGES[1:]]
    before, after = results.seen.stored_before_loss, real_rounds.shards(results.tenant, "r1")
    assert 0 < len(before) < len(after) == PROBLEMS // SHARD
    assert before.items() <= after.items()
    # The second attempt counts the shards of the first from its start.
    texts = results.seen.progress["r1", "rollout", 2]
    assert all(int(text.partition("/")[0]) >= SHARD for text in texts)


def test_each_round_reads_the_models_of_the_previous_one(results: Results) -> None:
    assert results.status("r1").inputs == {}
    for before, name in itertools.pairwise(NAMES):
        previous, status = results.status(before), results.status(name)
        wanted = {"policy": stage_of(previous, "train-policy").output}
        if name == "r3":
            wanted["ppm"] = stage_of(previous, "train-ppm").output
        assert status.inputs == wanted
        read = results.manifests(name)["rollout"].inputs
        assert {key: (ref.key, ref.digest) for key, ref in read.items()} == {
            key: (output.manifest, output.digest) for key, output in wanted.items() if output
        }
        assert results.manifests(before)["train-policy"].round == before


def test_every_round_starts_its_training_from_the_base_model(results: Results) -> None:
    bases = {results.manifests(name)["train-policy"].sources["base_model"] for name in NAMES}
    assert len(bases) == 1
    assert bases == {results.manifests("r1")["rollout"].sources["base_model"]}


def test_the_status_has_the_progress_of_a_running_stage(results: Results) -> None:
    for name in NAMES:
        texts = [
            text
            for (r, stage, _), reported in results.seen.progress.items()
            if (r, stage) == (name, "rollout")
            for text in reported
        ]
        assert texts
        assert all(re.fullmatch(rf"\d+/{PROBLEMS}", text) for text in texts)


def test_no_model_is_served_while_one_is_trained(results: Results) -> None:
    served = results.seen.served
    assert served["rollout"] == {"policy", "search", "ppm"}
    assert {kind for stage in ("select", "train-policy", "train-ppm") for kind in served[stage]} == set()


def test_a_finished_round_holds_no_compute(results: Results) -> None:
    api, namespace = results.tenant.api, results.tenant.namespace
    left = wait_until(lambda: [[b["metadata"]["name"] for b in api.list(DEPLOYMENTS, namespace)]], "deployments")
    wait_until(lambda: deployments(results.tenant) == ["rstar-executor"], "no services of rounds")
    ended = {"Succeeded", "Failed"}
    pods = [p for p in api.list(PODS, namespace, "rstar.dev/stage") if p["status"]["phase"] not in ended]
    assert pods == [], left


def deployments(tenant: Tenant) -> list[str]:
    return [body["metadata"]["name"] for body in tenant.api.list(DEPLOYMENTS, tenant.namespace)]


def test_events_report_every_stage_and_the_lost_attempt(results: Results) -> None:
    for name in NAMES:
        events = real_rounds.events(results.tenant, name)
        done = [message for reason, message in events if reason == "StageDone"]
        attempt = {("r1", "rollout"): 2}
        assert done == [f"attempt {attempt.get((name, s), 1)} of stage {s} is done" for s in STAGES]
        assert events[-1] == ("AllStagesDone", f"round {name} is complete")
        failed = [message for reason, message in events if reason == "AttemptFailed"]
        assert len(failed) == (name == "r1")
        assert all(m.startswith("attempt 1 of stage rollout failed: killed (exit code 137)") for m in failed)
    waited = [reason for reason, _ in real_rounds.events(results.tenant, "r2")]
    assert waited[0] == "PreviousRoundNotReady"


def test_kubectl_get_watch_shows_every_stage(results: Results) -> None:
    lines = [line.split() for line in results.terminal.splitlines()]
    assert lines[0] == ["NAME", "ROUND", "STAGE", "PROGRESS", "SOLVED", "%", "READY", "REASON", "AGE"]
    seen = "\n".join(" ".join(line) for line in lines)
    for name, number in zip(NAMES, range(1, 5), strict=False):
        for stage in STAGES:
            assert re.search(rf"^{name} {number} {stage} .*True StageRunning", seen, re.MULTILINE), (name, stage)
        solved = results.status(name).solved_percent
        assert re.search(rf"^{name} {number} {solved} True AllStagesDone \S+$", seen, re.MULTILINE), seen
    assert re.search(rf"^r1 1 rollout \d+/{PROBLEMS} [0-9.]+ True StageRunning", seen, re.MULTILINE), seen


def test_the_roles_of_the_charts_were_enough(results: Results) -> None:
    tenant = results.tenant
    for namespace, account in ((tenant.admin, "rstar-operator"), (tenant.namespace, "rstar-stage")):
        assert forbidden_requests(tenant.bed, f"system:serviceaccount:{namespace}:{account}") == []
