"""The chart's executors and MinIO as real processes, and ``helm test`` against them."""

from __future__ import annotations

import base64
import json
import os

import pytest
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError
from rstar_testbed.kubelet import Behaviour, Pod, Real

from tests.cluster.conftest import StartKubelet
from tests.support.cluster.rendering import CHARTS

SMALL = "executor.slots=1,operator.enabled=false,crds.enabled=false,rbac.aggregate=false"
TEMPORARY = "minio.enabled=true,minio.persistence.enabled=false"


@pytest.fixture
def chart(testbed: Testbed, namespace: str, kubelet: StartKubelet) -> str:
    """A namespace in which the chart's executor and MinIO run."""
    path = f"{testbed.binaries['minio'].parent}:{os.environ['PATH']}"

    def choose(pod: Pod) -> Behaviour:
        is_minio = pod["metadata"]["labels"]["app.kubernetes.io/name"] == "rstar-minio"
        return Real({"PATH": path} if is_minio else {})

    kubelet(choose)
    testbed.helm("install", "r", str(CHARTS / "rstar"), "-n", namespace, f"--set={SMALL},{TEMPORARY}")
    for name in ("rstar-executor", "rstar-minio"):
        testbed.kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=600s")
    return namespace


def test_helm_test_runs_a_program_and_fails_where_policies_are_not_enforced(testbed: Testbed, chart: str) -> None:
    # The testbed enforces no policies, so that the test pod's forbidden connection succeeds.
    with pytest.raises(CommandError, match="pod rstar-test-executor failed"):
        testbed.helm("test", "r", "-n", chart, "--timeout=600s")
    log = testbed.kubectl("logs", "rstar-test-executor", "-n", chart)
    assert "runs programs" in log
    assert "does the cluster enforce NetworkPolicies?" in log
    testbed.helm(
        "upgrade", "r", str(CHARTS / "rstar"), "-n", chart, "--reuse-values", "--set=networkPolicies.enabled=false"
    )
    assert "Succeeded" in testbed.helm("test", "r", "-n", chart, "--timeout=600s")


def test_the_bucket_is_created_and_the_storage_secret_has_its_keys(testbed: Testbed, chart: str) -> None:
    testbed.kubectl("wait", "--for=condition=Complete", "job", "--all", "-n", chart, "--timeout=600s")
    data = json.loads(testbed.kubectl("get", "secret", "rstar-storage", "-n", chart, "-o", "json"))["data"]
    secret = {key: base64.b64decode(value).decode() for key, value in data.items()}
    assert secret["RSTAR_STORE"] == f"s3://rstar/{chart}"
    text = (
        "import os; from rstar.store.open import open_store; s = open_store(os.environ['RSTAR_STORE']); "
        "s.write('x', b'kept'); print(s.read('x').decode())"
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stage", "labels": {"app.kubernetes.io/name": "stage"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "pytorch",
                    "image": "rstar/jobs",
                    "command": ["python", "-c", text],
                    "envFrom": [{"secretRef": {"name": "rstar-storage"}}],
                }
            ],
        },
    }
    testbed.kubectl("create", "-n", chart, "-f", "-", input=json.dumps(pod))
    testbed.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stage", "-n", chart, "--timeout=600s")
    assert testbed.kubectl("logs", "stage", "-n", chart) == "kept\n"
