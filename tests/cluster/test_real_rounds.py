"""Four rounds for real: charts, operators, jobs, services and stages as processes on a real control plane, MinIO behind.

Nothing is played. A node is lost on the way. The same rounds run on a folder by ``rstar run``, and leave the same bytes.
Four rounds, twice, start torch some fifty times: eight and a half minutes on two cores, by far the longest test here.
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
from tests.support.cluster.lab import forbidden
from tests.support.cluster.pods import needs_root, until
from tests.support.cluster.real_rounds import PROBLEMS, ROUNDS_APPLIED, SHARD, Diary, Tenant

pytestmark = [needs_root, pytest.mark.timeout(real_rounds.SECONDS + 600)]

NAMES = [f"r{number}" for number in range(1, ROUNDS_APPLIED + 1)]


@dataclass(frozen=True)
class Evolved:
    """What came of it: on the cluster, on this machine, and what was seen meanwhile."""

    tenant: Tenant
    store: S3Store
    folder: Path
    diary: Diary
    terminal: str

    def status(self, name: str) -> RoundStatus:
        """Return the last status of a round."""
        return self.diary.statuses[name]

    def manifests(self, name: str) -> dict[str, Manifest]:
        """Return a round's manifests by stage."""
        outputs = {s.name: s.output.manifest for s in self.status(name).stages if s.output}
        return {stage: read_manifest(self.store.read(key), key) for stage, key in outputs.items()}


@pytest.fixture(scope="module")
def evolved(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evolved]:
    """Go from nothing to the last round, on the cluster and, at the same time, on this machine."""
    folder = tmp_path_factory.mktemp("real")
    here, rounds = folder / "store", folder / "rounds.yaml"
    rounds.write_text(real_rounds.tiny_rounds(ROUNDS_APPLIED))
    real_rounds.make_games(here)
    base_model = real_rounds.start_base_model(here)
    admin, namespace = f"rstar-{uuid.uuid4().hex[:6]}", f"lab-{uuid.uuid4().hex[:6]}"
    testbed.kubectl("create", "namespace", admin)
    kubeconfig, diary, watched = testbed.kubeconfig, Diary(), folder / "terminal"
    try:
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
                real_rounds.laptop(here, rounds, folder / "laptop.log") as laptop,
                real_rounds.watching(tenant, watched),
            ):
                tenant.kubectl("apply", "-f", str(rounds))
                real_rounds.follow(tenant, diary, NAMES)
                assert laptop.wait() == 0, (folder / "laptop.log").read_text()
            yield Evolved(tenant, store, here, diary, watched.read_text())
    finally:
        base_model.kill()
        for release in ("tenant", "rstar"):
            testbed.helm("uninstall", release, "-n", admin, "--ignore-not-found")
        testbed.kubectl("delete", "namespace", admin, namespace, "--wait=false", "--ignore-not-found")


def test_every_round_goes_through_all_stages(evolved: Evolved) -> None:
    for name in NAMES:
        status = evolved.status(name)
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


def test_the_laptop_leaves_the_same_manifests_byte_for_byte(evolved: Evolved) -> None:
    keys = sorted(key for key in evolved.store.list("rounds/") if key.endswith("/manifest.json"))
    here = sorted(str(path.relative_to(evolved.folder)) for path in evolved.folder.glob("rounds/**/manifest.json"))
    assert keys == here
    assert len(keys) == len(STAGES) * len(NAMES)
    for key in keys:
        assert evolved.store.read(key) == (evolved.folder / key).read_bytes(), key


def test_all_that_the_manifests_list_is_in_the_tenants_folder_of_minio(evolved: Evolved) -> None:
    assert evolved.store.uri == f"s3://{evolved.tenant.namespace}/{evolved.tenant.namespace}"
    for name in NAMES:
        for stage, manifest in evolved.manifests(name).items():
            output = stage_of(evolved.status(name), stage).output
            assert output is not None
            assert manifest.outputs or stage == "evaluate"
            for file in manifest.outputs:
                key = f"{output.manifest.removesuffix('manifest.json')}{file.path}"
                assert digest_of(evolved.store.read(key)) == file.sha256, key


def test_a_lost_node_costs_an_attempt_and_no_stored_shard(evolved: Evolved) -> None:
    status = evolved.status("r1")
    first, second, *others = status.attempts
    assert (first.stage, first.number, first.state, first.exit_code) == ("rollout", 1, "failed", 137)
    assert (second.stage, second.number, second.state) == ("rollout", 2, "succeeded")
    assert [(a.stage, a.number) for a in others] == [(stage.value, 1) for stage in STAGES[1:]]
    before, after = evolved.diary.stored_before_loss, real_rounds.shards(evolved.tenant, "r1")
    assert 0 < len(before) < len(after) == PROBLEMS // SHARD
    assert before.items() <= after.items()
    # What the first attempt had stored counts from the start.
    told = evolved.diary.progress["r1", "rollout", 2]
    assert all(int(text.partition("/")[0]) >= SHARD for text in told)


def test_each_round_reads_what_the_one_before_left(evolved: Evolved) -> None:
    assert evolved.status("r1").inputs == {}
    for before, name in itertools.pairwise(NAMES):
        left, status = evolved.status(before), evolved.status(name)
        wanted = {"policy": stage_of(left, "train-policy").output}
        if name == "r3":
            wanted["ppm"] = stage_of(left, "train-ppm").output
        assert status.inputs == wanted
        read = evolved.manifests(name)["rollout"].inputs
        assert {key: (ref.key, ref.digest) for key, ref in read.items()} == {
            key: (output.manifest, output.digest) for key, output in wanted.items() if output
        }
        assert evolved.manifests(before)["train-policy"].round == before


def test_every_round_starts_its_training_from_the_base_model(evolved: Evolved) -> None:
    bases = {evolved.manifests(name)["train-policy"].sources["base_model"] for name in NAMES}
    assert len(bases) == 1
    assert bases == {evolved.manifests("r1")["rollout"].sources["base_model"]}


def test_the_status_tells_how_far_a_stage_is_while_it_runs(evolved: Evolved) -> None:
    for name in NAMES:
        told = [
            text
            for (r, stage, _), texts in evolved.diary.progress.items()
            if (r, stage) == (name, "rollout")
            for text in texts
        ]
        assert told
        assert all(re.fullmatch(rf"\d+/{PROBLEMS}", text) for text in told)


def test_no_model_is_served_while_one_is_trained(evolved: Evolved) -> None:
    served = evolved.diary.served
    assert served["rollout"] == {"policy", "search", "ppm"}
    assert {kind for stage in ("select", "train-policy", "train-ppm") for kind in served[stage]} == set()


def test_nothing_of_a_finished_round_holds_compute(evolved: Evolved) -> None:
    api, namespace = evolved.tenant.api, evolved.tenant.namespace
    left = until(lambda: [[b["metadata"]["name"] for b in api.list(DEPLOYMENTS, namespace)]], "deployments")
    until(lambda: deployments(evolved.tenant) == ["rstar-executor"], "no services of rounds")
    ended = {"Succeeded", "Failed"}
    pods = [p for p in api.list(PODS, namespace, "rstar.dev/stage") if p["status"]["phase"] not in ended]
    assert pods == [], left


def deployments(tenant: Tenant) -> list[str]:
    return [body["metadata"]["name"] for body in tenant.api.list(DEPLOYMENTS, tenant.namespace)]


def test_events_tell_the_story(evolved: Evolved) -> None:
    for name in NAMES:
        told = real_rounds.events(evolved.tenant, name)
        done = [message for reason, message in told if reason == "StageDone"]
        attempt = {("r1", "rollout"): 2}
        assert done == [f"attempt {attempt.get((name, s), 1)} of stage {s} is done" for s in STAGES]
        assert told[-1] == ("AllStagesDone", f"round {name} is complete")
        failed = [message for reason, message in told if reason == "AttemptFailed"]
        assert len(failed) == (name == "r1")
        assert all(m.startswith("attempt 1 of stage rollout failed: killed (exit code 137)") for m in failed)
    waited = [reason for reason, _ in real_rounds.events(evolved.tenant, "r2")]
    assert waited[0] == "PreviousRoundNotReady"


def test_a_terminal_left_open_shows_the_way(evolved: Evolved) -> None:
    lines = [line.split() for line in evolved.terminal.splitlines()]
    assert lines[0] == ["NAME", "ROUND", "STAGE", "PROGRESS", "SOLVED", "%", "READY", "REASON", "AGE"]
    seen = "\n".join(" ".join(line) for line in lines)
    for name, number in zip(NAMES, range(1, 5), strict=False):
        for stage in STAGES:
            assert re.search(rf"^{name} {number} {stage} .*True StageRunning", seen, re.MULTILINE), (name, stage)
        solved = evolved.status(name).solved_percent
        assert re.search(rf"^{name} {number} {solved} True AllStagesDone \S+$", seen, re.MULTILINE), seen
    assert re.search(rf"^r1 1 rollout \d+/{PROBLEMS} [0-9.]+ True StageRunning", seen, re.MULTILINE), seen


def test_the_roles_of_the_charts_were_enough(evolved: Evolved) -> None:
    tenant = evolved.tenant
    for namespace, account in ((tenant.admin, "rstar-operator"), (tenant.namespace, "rstar-stage")):
        assert forbidden(tenant.bed, f"system:serviceaccount:{namespace}:{account}") == []
