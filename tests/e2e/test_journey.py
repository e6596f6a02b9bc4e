"""What a lab does on a real node: install, set tenants up, apply four rounds of the Game of 24, upgrade, lose pods, solve.

Every pod is a container of the project's images, scheduled by its requests, and all services have mutual TLS. ``rstar run``
runs the same rounds on a folder, without TLS.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from rstar.cluster.api import DEPLOYMENTS, PODS
from rstar.rounds.manifest import Manifest, digest_of, read_manifest
from rstar.rounds.observed import STAGES
from rstar.rounds.status import RoundStatus, StageStatus
from rstar.store.digests import checkpoint_digest
from rstar.store.s3_store import S3Store
from rstar.store.store import StoreError
from tests.e2e.conftest import UseImages
from tests.support.cluster import real_rounds, tiny_rounds
from tests.support.cluster.chart_operator import forbidden_requests
from tests.support.cluster.containers import code_at_sigterm
from tests.support.cluster.lab import BUCKET, IMAGES, SMALL, Lab, Tenant, fill_store, lab
from tests.support.cluster.pods import wait_until
from tests.support.cluster.real_rounds import Observations
from tests.support.cluster.releases import secret
from tests.support.cluster.rounds import round_body
from tests.support.cluster.tiny_rounds import PROBLEMS, RSTAR, SHARD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(real_rounds.SECONDS + 1_800)]

NAMES = ["r1", "r2", "r3", "r4"]


@dataclass(frozen=True)
class Journey:
    """The lab with two tenants, the first one's rounds in its store, and the folder in which ``rstar run`` ran the same.

    ``before_loss``: the shards of the last round when its pods were killed. ``executor``: the upgraded executors' image.
    """

    lab: Lab
    tenant: Tenant
    other: Tenant
    store: S3Store
    folder: Path
    seen: Observations
    terminal: str
    before_loss: dict[str, datetime | None]
    executor: str

    def status(self, name: str) -> RoundStatus:
        """Return the last status of a round."""
        return self.seen.statuses[name]

    def manifests(self, name: str) -> dict[str, Manifest]:
        """Return a round's manifests by stage."""
        outputs = {s.name: s.output.manifest for s in self.status(name).stages if s.output}
        return {stage: read_manifest(self.store.read(key), key) for stage, key in outputs.items()}

    def rstar(self, *words: str) -> str:
        """Run ``rstar`` on this machine as the tenant's user and return its output."""
        command = [RSTAR, *words, "--namespace", self.tenant.namespace, "--kubeconfig", str(self.tenant.user)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def journey(testbed: Testbed, use_images: UseImages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Install everything and run four rounds, on the node and then on this machine.

    During the second round the executors are upgraded; in the last one policy and stage are killed.
    """
    folder = tmp_path_factory.mktemp("journey")
    here, rounds, watched = folder / "store", folder / "rounds.yaml", folder / "terminal"
    bodies = tiny_rounds.tiny_rounds(len(NAMES))
    for body in bodies:
        body["spec"]["cluster"] = {"resources": SMALL}
    rounds.write_text(yaml.safe_dump_all(bodies))
    tiny_rounds.make_games(here)
    base_model = tiny_rounds.start_base_model(here)
    try:
        images = use_images(*IMAGES)
        upgraded = use_images.changed("executor")
        assert base_model.wait() == 0
        with lab(testbed, images, folder / "certificates") as made:
            tenant, other = made.add_tenant(), made.add_tenant()
            made.install_executors(tenant)
            store = fill_store(tenant, here, ("models/base", "data/train.jsonl", "data/held-out.jsonl"))
            seen, before_loss = Observations(), dict[str, datetime | None]()

            def lose_pods() -> None:
                before_loss.update(real_rounds.shards(tenant, "r4"))
                real_rounds.lose_node(tenant.namespace, "r4-rollout-1")

            def upgrade() -> None:
                tenant.helm("upgrade", "--reset-then-reuse-values", *chart_options({"executor": upgraded}))

            with real_rounds.kubectl_watch(tenant, watched):
                tenant.kubectl("apply", "-f", str(rounds))
                real_rounds.wait_for_rounds(tenant, seen, NAMES, {"r2": upgrade, "r4": lose_pods})
            with tiny_rounds.local_run(here, rounds, folder / "local.log") as local_run:
                assert local_run.wait() == 0, (folder / "local.log").read_text()
            yield Journey(made, tenant, other, store, here, seen, watched.read_text(), before_loss, upgraded)
    finally:
        base_model.kill()


def test_every_round_goes_through_all_stages(journey: Journey) -> None:
    for name in NAMES:
        status = journey.status(name)
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


def test_rstar_run_writes_the_same_manifests_byte_for_byte(journey: Journey) -> None:
    keys = sorted(key for key in journey.store.list("rounds/") if key.endswith("/manifest.json"))
    here = sorted(str(path.relative_to(journey.folder)) for path in journey.folder.glob("rounds/**/manifest.json"))
    assert len(keys) == len(here) == len(STAGES) * len(NAMES)
    # A policy that was killed has lost its cached prefixes, which changes the rounding of later candidates.
    undisturbed = [key for key in keys if not key.startswith("rounds/r4/")]
    assert undisturbed == [key for key in here if not key.startswith("rounds/r4/")]
    for key in undisturbed:
        assert journey.store.read(key) == (journey.folder / key).read_bytes(), key


def test_all_files_that_the_manifests_list_are_in_the_tenants_folder_of_minio(journey: Journey) -> None:
    assert journey.store.uri == f"s3://{BUCKET}/{journey.tenant.namespace}"
    for name in NAMES:
        for stage, manifest in journey.manifests(name).items():
            output = stage_of(journey.status(name), stage).output
            assert output is not None
            assert manifest.outputs or stage == "evaluate"
            for file in manifest.outputs:
                key = f"{output.manifest.removesuffix('manifest.json')}{file.path}"
                assert digest_of(journey.store.read(key)) == file.sha256, key


def test_lost_pods_cost_an_attempt_and_no_stored_shard(journey: Journey) -> None:
    status = journey.status("r4")
    first, second, *others = status.attempts
    assert (first.stage, first.number, first.state, first.exit_code) == ("rollout", 1, "failed", 137)
    assert (second.stage, second.number, second.state) == ("rollout", 2, "succeeded")
    assert [(a.stage, a.number) for a in others] == [(stage.value, 1) for stage in STAGES[1:]]
    before, after = journey.before_loss, real_rounds.shards(journey.tenant, "r4")
    assert 0 < len(before) < len(after) == PROBLEMS // SHARD
    assert before.items() <= after.items()
    # The second attempt counts the shards of the first from its start.
    texts = journey.seen.progress["r4", "rollout", 2]
    assert all(int(text.partition("/")[0]) >= SHARD for text in texts)


def test_each_round_reads_the_models_of_the_previous_one(journey: Journey) -> None:
    assert journey.status("r1").inputs == {}
    for before, name in itertools.pairwise(NAMES):
        previous, status = journey.status(before), journey.status(name)
        wanted = {"policy": stage_of(previous, "train-policy").output}
        if name == "r3":
            wanted["ppm"] = stage_of(previous, "train-ppm").output
        assert status.inputs == wanted
        read = journey.manifests(name)["rollout"].inputs
        assert {key: (ref.key, ref.digest) for key, ref in read.items()} == {
            key: (output.manifest, output.digest) for key, output in wanted.items() if output
        }
        assert journey.manifests(before)["train-policy"].round == before


def test_every_round_starts_its_training_from_the_base_model(journey: Journey) -> None:
    bases = {journey.manifests(name)["train-policy"].sources["base_model"] for name in NAMES}
    assert len(bases) == 1
    assert bases == {journey.manifests("r1")["rollout"].sources["base_model"]}


def test_the_status_has_the_progress_of_a_running_stage(journey: Journey) -> None:
    for name in NAMES:
        texts = [
            text
            for (r, stage, _), reported in journey.seen.progress.items()
            if (r, stage) == (name, "rollout")
            for text in reported
        ]
        assert texts
        assert all(re.fullmatch(rf"\d+/{PROBLEMS}", text) for text in texts)


def test_no_model_is_served_while_one_is_trained(journey: Journey) -> None:
    served = journey.seen.served
    assert served["rollout"] == {"policy", "search", "ppm"}
    assert {kind for stage in ("select", "train-policy", "train-ppm") for kind in served[stage]} == set()


def test_a_finished_round_holds_no_compute(journey: Journey) -> None:
    api, namespace = journey.tenant.api, journey.tenant.namespace
    left = wait_until(lambda: [[b["metadata"]["name"] for b in api.list(DEPLOYMENTS, namespace)]], "deployments")
    wait_until(lambda: deployments(journey.tenant) == ["rstar-executor"], "no services of rounds")
    ended = {"Succeeded", "Failed"}
    pods = [p for p in api.list(PODS, namespace, "rstar.dev/stage") if p["status"]["phase"] not in ended]
    assert pods == [], left


def deployments(tenant: Tenant) -> list[str]:
    return [body["metadata"]["name"] for body in tenant.api.list(DEPLOYMENTS, tenant.namespace)]


def test_events_report_every_stage_and_the_lost_attempt(journey: Journey) -> None:
    for name in NAMES:
        events = real_rounds.events(journey.tenant, name)
        done = [message for reason, message in events if reason == "StageDone"]
        attempt = {("r4", "rollout"): 2}
        assert done == [f"attempt {attempt.get((name, s), 1)} of stage {s} is done" for s in STAGES]
        assert events[-1] == ("AllStagesDone", f"round {name} is complete")
        failed = [message for reason, message in events if reason == "AttemptFailed"]
        assert len(failed) == (name == "r4")
        assert all(m.startswith("attempt 1 of stage rollout failed: killed (exit code 137)") for m in failed)
    waited = [reason for reason, _ in real_rounds.events(journey.tenant, "r2")]
    assert waited[0] == "PreviousRoundNotReady"


def test_kubectl_get_watch_shows_every_stage(journey: Journey) -> None:
    lines = [line.split() for line in journey.terminal.splitlines()]
    assert lines[0] == ["NAME", "ROUND", "STAGE", "PROGRESS", "SOLVED", "%", "READY", "REASON", "AGE"]
    seen = "\n".join(" ".join(line) for line in lines)
    for name, number in zip(NAMES, range(1, 5), strict=True):
        for stage in STAGES:
            assert re.search(rf"^{name} {number} {stage} .*True StageRunning", seen, re.MULTILINE), (name, stage)
        solved = journey.status(name).solved_percent
        assert re.search(rf"^{name} {number} {solved} True AllStagesDone \S+$", seen, re.MULTILINE), seen
    assert re.search(rf"^r1 1 rollout \d+/{PROBLEMS} [0-9.]+ True StageRunning", seen, re.MULTILINE), seen


def test_the_roles_of_the_charts_were_enough(journey: Journey) -> None:
    tenant = journey.tenant
    for namespace, account in ((journey.lab.admin, "rstar-operator"), (tenant.namespace, "rstar-stage")):
        assert forbidden_requests(tenant.bed, f"system:serviceaccount:{namespace}:{account}") == []


def test_an_upgrade_of_the_executors_in_a_round_costs_no_attempt(journey: Journey) -> None:
    assert [(a.stage, a.number) for a in journey.status("r2").attempts] == [(stage.value, 1) for stage in STAGES]
    image = "jsonpath={.items[*].spec.containers[0].image}"
    found = journey.tenant.kubectl("get", "pods", "-l", "app.kubernetes.io/component=executor", "-o", image)
    assert found == journey.executor


def test_status_and_logs_are_readable_from_outside(journey: Journey) -> None:
    status = journey.rstar("status")
    assert all(name in status for name in NAMES)
    assert journey.rstar("logs", "r1", "--stage", "train-policy").strip()


def test_the_doctor_of_the_tenants_user_finds_nothing_failed(journey: Journey) -> None:
    checks = {one["name"]: one for one in json.loads(journey.rstar("doctor", "--json"))["checks"]}
    expected = ("crd EvolutionRound", "operator", "rights", "storage secret", "store", "executors", "network policies")
    assert {name: checks[name]["result"] for name in expected} == dict.fromkeys(expected, "ok"), checks


def test_the_tenants_data_and_models_are_exported_for_the_hub(journey: Journey, tmp_path: Path) -> None:
    keys = secret(journey.lab.bed, "rstar-storage", journey.tenant.namespace)
    command = [RSTAR, "export", "hub", "--store", journey.store.uri, "--round", "r2", "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **keys})
    assert json.loads(done.stdout)["leftOut"] == []
    assert (tmp_path / "r2-policy" / "README.md").is_file()


def test_another_tenant_reads_neither_rounds_nor_keys_nor_pods(journey: Journey) -> None:
    for words in (
        ("get", "evolutionrounds"), ("get", "secrets"), ("get", "pods"), ("get", "configmaps"),
        ("port-forward", "service/rstar-executor", "50053"), ("delete", "er", "r1"),
    ):  # fmt: skip
        command = ("-n", journey.tenant.namespace, *words)
        assert "forbidden" in journey.lab.bed.kubectl(*command, kubeconfig=journey.other.user, check=False), words
    assert journey.other.kubectl("get", "evolutionrounds", check=False).strip().startswith("No resources found")


def test_another_tenants_keys_open_nothing_of_this_ones_part_of_the_bucket(journey: Journey) -> None:
    key = stage_of(journey.status("r1"), "rollout").output
    assert key is not None
    theirs = journey.other.store()
    theirs.write("own", b"1")
    assert theirs.read("own") == b"1"
    keys = secret(journey.lab.bed, "rstar-storage", journey.other.namespace)

    def trespass() -> bytes:
        return S3Store.from_environment(journey.store.uri, keys).read(key.manifest)

    with pytest.raises(StoreError, match="AccessDenied"):
        trespass()


def test_a_question_is_solved_from_outside_by_models_of_a_round_whose_servers_end_at_sigterm(
    journey: Journey,
) -> None:
    tenant = journey.tenant
    outputs = {role: stage_of(journey.status("r3"), f"train-{role}").output for role in ("policy", "ppm")}
    models = {role: Path(output.manifest).parent / "checkpoint" for role, output in outputs.items() if output}
    served = [
        f"--set={role}.enabled=true,{role}.model=store:{model},{role}.threads=1" for role, model in models.items()
    ]
    small = ("resources.requests.cpu=200m", "resources.requests.memory=1Gi", "resources.limits.memory=3Gi")
    sizes = [f"--set={role}.{each}" for role in ("policy", "ppm", "search") for each in small]
    tenant.helm("upgrade", "--reset-then-reuse-values", "--set=search.enabled=true", *served, *sizes)
    for name in ("policy", "ppm", "search"):
        tenant.kubectl("rollout", "status", f"deployment/rstar-{name}", "--timeout=600s")
    question = ["--problem", f"{journey.folder / 'data/held-out.jsonl'}:1", "--format", "countdown"]
    settings = ["--verifier", "countdown", "--rollouts", "8", "--set=answer=output", "--set=maxDepth=5", "--json"]
    here = [argument for role, model in models.items() for argument in (f"--{role}-model", str(journey.folder / model))]
    with port_forward(tenant, "service/rstar-search", 50054) as address:
        command = [RSTAR, "solve", *question, *settings, "--search", address]
        environment = os.environ | tenant.certificate
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        stranger = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert stranger.returncode == 1
    assert "without TLS" in stranger.stderr
    found = json.loads(done.stdout)
    assert found["usage"]["executions"] > 0
    assert found["policyDigest"] == checkpoint_digest(journey.folder / models["policy"])
    # The PPM is called for steps that ran; so small a policy may write none. The same models here tell.
    done = subprocess.run([RSTAR, "solve", *question, *settings, *here], check=True, capture_output=True, text=True)
    expected = json.loads(done.stdout)
    for key in ("answer", "usage", "policyDigest", "ppmDigest"):
        assert found[key] == expected[key], key
    for name in ("policy", "ppm", "search"):
        assert code_at_sigterm(tenant.bed, tenant.namespace, f"rstar-{name}") == 0


@contextlib.contextmanager
def port_forward(tenant: Tenant, target: str, port: int) -> Iterator[str]:
    """Forward a free port of this machine to a Service of the tenant, as a user does; give its address."""
    command = [str(tenant.bed.binaries["kubectl"]), "-n", tenant.namespace, "port-forward", target, f":{port}"]
    environment = os.environ | {"KUBECONFIG": str(tenant.user)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            # "Forwarding from 127.0.0.1:PORT -> 50054"
            yield process.stdout.readline().split()[2]
        finally:
            process.terminate()


def test_rounds_survive_the_operators_uninstallation_and_its_next_installation(journey: Journey) -> None:
    made, tenant = journey.lab, journey.tenant

    def rounds() -> dict[str, object]:
        found = json.loads(tenant.kubectl("get", "evolutionrounds", "-o", "json"))["items"]
        return {body["metadata"]["name"]: (body["spec"], body["status"]) for body in found}

    before = rounds()
    made.bed.helm("uninstall", "rstar", "-n", made.admin, "--wait")
    assert sorted(before) == NAMES
    assert rounds() == before
    made.install_operator()
    # The operator has read every round when it has seen a new one.
    tenant.kubectl("apply", "-f", "-", input=yaml.safe_dump(round_body("late", suspend=True)))
    wait_until(
        lambda: "late" in tenant.kubectl("get", "er", "-o", "wide") and "Suspended" in tenant.kubectl("get", "er"),
        "the operator sees a new round",
    )
    after = rounds()
    assert {name: after[name] for name in NAMES} == before
    tenant.kubectl("delete", "er", "late")
