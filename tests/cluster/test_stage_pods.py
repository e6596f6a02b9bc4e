"""A training stage on two nodes with real processes: the operator's job, the stock controllers of each backend, MinIO, torchrun.

The job is deleted in the middle, as when a round is suspended; the next attempt resumes from the saved checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rstar_operator.backend import PyTorchJobBackend, TrainingBackend
from rstar_operator.children.attempt import attempt_pods
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration
from rstar_operator.deciding.writes import Create
from rstar_operator.trainjob import TrainJobBackend
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError
from rstar_testbed.kubelet import always_real

from rstar.cluster.names import PROGRESS_KEY, attempt_name
from rstar.rounds.observed import ManifestRef, Stage, StartStage
from rstar.store.digests import files_of
from rstar.store.s3_store import S3Store
from tests.cluster.conftest import StartKubelet
from tests.support.cluster.pods import NamespaceClient, needs_root, wait_until
from tests.support.jobs.stage_workspace import StageWorkspace, examples, make_base

STEPS = 1_000
SECONDS = 900.0
"""Far more than an idle machine needs: most of the time is importing torch, which a busy machine slows."""

ROLE = {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}]}
SUBJECT = {"kind": "ServiceAccount", "name": "rstar-stage"}
BINDING = {
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "rstar-stage"},
    "subjects": [SUBJECT],
}


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A control plane with MinIO and the controllers of both backends."""
    with Testbed.start(tmp_path_factory.mktemp("testbed"), trainer=True) as bed:
        yield bed


@pytest.fixture
def store(client: NamespaceClient) -> S3Store:
    """The namespace's store. Its keys are in the namespace's Secret; the stage's ServiceAccount may patch ConfigMaps."""
    minio = client.bed.minio
    assert minio is not None
    minio.client().make_bucket(client.namespace)
    environment = dict(minio.environment(f"s3://{client.namespace}/{client.namespace}"))
    rbac = "rbac.authorization.k8s.io/v1"
    client.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rstar-storage"}, "stringData": environment},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rstar-stage"}},
        {"apiVersion": rbac, "kind": "Role", "metadata": {"name": "rstar-stage"}, **ROLE},
        {"apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "rstar-stage"}, **BINDING},
    )
    return S3Store.from_environment(environment["RSTAR_STORE"], environment)


class Attempt:
    """One attempt of the training stage, as the operator creates it."""

    def __init__(
        self,
        client: NamespaceClient,
        backend: TrainingBackend,
        made: StageWorkspace,
        select: ManifestRef,
        number: int,
    ) -> None:
        self.client = client
        self.backend = backend
        self.name = attempt_name("r1", Stage.TRAIN_POLICY, number)
        owner = Owner(made.round, client.namespace, "0")
        images = dict.fromkeys(("policy", "ppm", "search", "jobs", "vllm"), "none")
        configuration = Configuration.model_validate({"images": images})
        start = StartStage(Stage.TRAIN_POLICY, number, (("select", select),))
        progress = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}, "data": {}}
        client.apply(progress)
        for create in backend.creates(owner, attempt_pods(owner, configuration, start)):
            del create.body["metadata"]["ownerReferences"]
            wait_until(partial(self._created, create), f"{create.body['kind']} {self.name}")

    def _created(self, create: Create) -> bool:
        """Create an object; False while its webhook does not know the one before it."""
        try:
            self.client.apply(create.body)
        except CommandError as error:
            if not create.too_early or create.too_early not in str(error):
                raise
            return False
        return True

    def progress(self) -> dict[str, Any]:
        """Return the progress in its ConfigMap."""
        content = (self.client.get("configmap", self.name) or {}).get("data", {})
        progress: dict[str, Any] = json.loads(content.get(PROGRESS_KEY, "{}"))
        return progress

    def pods(self) -> list[dict[str, Any]]:
        """Return its pods."""
        selector = ("-l", self.backend.pod_selector(self.name), "-n", self.client.namespace)
        found: list[dict[str, Any]] = json.loads(self.client.bed.kubectl("get", "pods", "-o", "json", *selector))[
            "items"
        ]
        return found

    def messages(self) -> list[str]:
        """Return the termination messages of the pods that have ended."""
        statuses = [status for pod in self.pods() for status in pod["status"].get("containerStatuses", [])]
        return [status["state"]["terminated"].get("message", "") for status in statuses]

    def pods_are(self, phase: str) -> bool:
        """Return whether both of its pods are in this phase."""
        return [pod["status"].get("phase") for pod in self.pods()] == [phase] * 2

    def delete(self) -> None:
        """Delete the job and its pods."""
        namespace = ("-n", self.client.namespace)
        kind = self.backend.kind.full_name
        patch = self.backend.read(self.client.get(kind, self.name) or {}).deletion_patch
        if patch is not None:
            self.client.bed.kubectl(
                "patch", kind, self.name, "--type=merge", f"--patch={json.dumps(patch)}", *namespace
            )
        words = ("delete", kind, self.name, "--cascade=foreground", f"--timeout={SECONDS:.0f}s")
        self.client.bed.kubectl(*words, *namespace)


@needs_root
@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize(
    ("backend", "succeeded"), [(PyTorchJobBackend(), "Succeeded"), (TrainJobBackend(), "Complete")]
)
def test_two_nodes_save_when_their_job_is_deleted_and_the_next_attempt_resumes_and_reports_one_manifest(
    client: NamespaceClient,
    store: S3Store,
    kubelet: StartKubelet,
    tmp_path: Path,
    backend: TrainingBackend,
    succeeded: str,
) -> None:
    started = kubelet(always_real)
    make_base(tmp_path / "base")
    for name, path in files_of(tmp_path / "base"):
        store.upload(f"models/base/{name}", path)
    settings = {"nodes": 2, "epochs": STEPS // 5, "batchSize": 4, "saveSteps": 100_000}
    made = StageWorkspace(
        tmp_path, baseModel="store:models/base", trainPolicy=settings, problems={"uri": "store:data/train.jsonl"}
    )
    made.store = store
    select = made.selected(examples(20), [])

    first = Attempt(client, backend, made, select, 1)
    wait_until(lambda: first.progress().get("done"), "progress", SECONDS)
    first.delete()
    (latest,) = [key for key in store.list("rounds/r1/train-policy/") if key.endswith("/resume/latest.json")]
    saved = json.loads(store.read(latest))["step"]
    assert 0 < saved < STEPS

    second = Attempt(client, backend, made, select, 2)

    def logs() -> list[str]:
        return [started.log(client.namespace, pod["metadata"]["name"]) for pod in second.pods()]

    wait_until(lambda: second.pods_are("Succeeded") or second.pods_are("Failed"), "both nodes' end", SECONDS)
    assert second.pods_are("Succeeded"), logs()
    assert all(f'"checkpoint-{saved}"' in log for log in logs())
    (message,) = filter(None, second.messages())
    result = json.loads(message)
    assert hashlib.sha256(store.read(result["manifest"])).hexdigest() == result["digest"]
    assert result["metrics"]["steps"] == STEPS
    assert not any("/resume/" in key for key in store.list(""))
    progress = second.progress()
    assert (progress["done"], progress["total"]) == (STEPS, STEPS)
    assert math.isfinite(progress["loss"])
    assert progress["tokens_per_second"] > 0
    job = f"{backend.kind.full_name}/{second.name}"
    client.bed.kubectl("wait", f"--for=condition={succeeded}", job, "-n", client.namespace, "--timeout=60s")
