"""The operator's jobs of a training stage in containers: the controllers of both backends, torchrun, and MinIO.

A job of two pods is deleted in the middle, as when a round is suspended; the next attempt resumes from the saved checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
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

from rstar.cluster.names import PROGRESS_KEY, attempt_name
from rstar.rounds.observed import ManifestRef, Stage, StartStage
from rstar.store.digests import files_of
from rstar.store.s3_store import S3Store
from tests.e2e.conftest import UseImages
from tests.support.cluster.pods import NamespaceClient, terminated_state, wait_until
from tests.support.jobs.stage_workspace import StageWorkspace, examples, make_base

STEPS = 2_000
RESOURCES = {"cpu": "700m", "memory": "1536Mi"}
"""Of each pod: two of them fit on a node with two cores."""

SECONDS = 900.0
"""Far more than an idle machine needs: most of the time is importing torch, which a busy machine slows."""

ROLE = {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}]}
SUBJECT = {"kind": "ServiceAccount", "name": "rstar-stage"}
BINDING = {
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "rstar-stage"},
    "subjects": [SUBJECT],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * SECONDS)]


@pytest.fixture
def client(testbed: Testbed, namespace: str) -> NamespaceClient:
    return NamespaceClient(testbed, namespace)


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
        image: str,
        made: StageWorkspace,
        number: int,
        **inputs: ManifestRef,
    ) -> None:
        self.client = client
        self.backend = backend
        self.name = attempt_name("r1", Stage.TRAIN_POLICY, number)
        owner = Owner(made.round, client.namespace, "0")
        images = dict.fromkeys(("policy", "ppm", "search", "jobs", "vllm"), image)
        configuration = Configuration.model_validate({"images": images})
        start = StartStage(Stage.TRAIN_POLICY, number, tuple(sorted(inputs.items())))
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
        """Return the termination messages of its pods, which have ended."""
        return [terminated_state(pod).get("message", "") for pod in self.pods()]

    def logs(self) -> list[str]:
        """Return the logs of its pods so far."""
        names = [pod["metadata"]["name"] for pod in self.pods()]
        return [self.client.bed.kubectl("logs", name, "-n", self.client.namespace) for name in names]

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


def workspace(folder: Path, store: S3Store, **settings: int) -> StageWorkspace:
    """Return a round whose files are in the store: ``settings`` of train-policy."""
    made = StageWorkspace(
        folder,
        baseModel="store:models/base",
        trainPolicy=settings,
        problems={"uri": "store:data/train.jsonl"},
        cluster={"resources": {"trainPolicy": RESOURCES}},
    )
    made.store = store
    return made


@pytest.mark.parametrize(
    ("backend", "succeeded"), [(PyTorchJobBackend(), "Succeeded"), (TrainJobBackend(), "Complete")]
)
def test_two_nodes_save_when_their_job_is_deleted_and_the_next_attempt_resumes_and_reports_one_manifest(
    client: NamespaceClient,
    store: S3Store,
    use_images: UseImages,
    tmp_path: Path,
    backend: TrainingBackend,
    succeeded: str,
) -> None:
    client.bed.start_trainer()
    image = use_images("jobs")["jobs"]
    make_base(tmp_path / "base")
    for name, path in files_of(tmp_path / "base"):
        store.upload(f"models/base/{name}", path)
    made = workspace(tmp_path, store, nodes=2, epochs=STEPS // 5, batchSize=4, saveSteps=100_000)
    select = made.selected(examples(20), [])

    first = Attempt(client, backend, image, made, 1, select=select)
    wait_until(lambda: first.progress().get("done"), "progress", SECONDS)
    first.delete()
    (latest,) = [key for key in store.list("rounds/r1/train-policy/") if key.endswith("/resume/latest.json")]
    saved = json.loads(store.read(latest))["step"]
    assert 0 < saved < STEPS

    second = Attempt(client, backend, image, made, 2, select=select)
    wait_until(lambda: second.pods_are("Succeeded") or second.pods_are("Failed"), "both nodes' end", SECONDS)
    assert second.pods_are("Succeeded"), second.logs()
    assert all(f'"checkpoint-{saved}"' in log for log in second.logs())
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


def test_under_torchrun_the_termination_message_tells_bad_input_that_the_exit_code_hides(
    client: NamespaceClient, store: S3Store, use_images: UseImages, tmp_path: Path
) -> None:
    attempt = Attempt(client, PyTorchJobBackend(), use_images("jobs")["jobs"], workspace(tmp_path, store), 1)
    wait_until(lambda: [pod["status"].get("phase") for pod in attempt.pods()] == ["Failed"], "a failed pod", SECONDS)
    [pod] = attempt.pods()
    [message] = attempt.messages()
    assert (terminated_state(pod)["exitCode"], json.loads(message)["exit_code"]) == (1, 2)
    assert "the input select is missing" in json.loads(message)["error"]
