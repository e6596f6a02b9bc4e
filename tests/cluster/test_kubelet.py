"""The test kubelet: scripted pods say what their script says, real ones live as in a container."""

from __future__ import annotations

import json

from rstar_testbed.kubelet import Behaviour, Pending, Run, Waiting, always_real

from tests.cluster.conftest import StartKubelet
from tests.support.cluster.pods import Cluster, ended, needs_root, pod, until


def test_scripted_pods_end_as_their_script_says(cluster: Cluster, kubelet: StartKubelet) -> None:
    plays: dict[str, Behaviour] = {
        "good": Run(seconds=0.2, message="sha256:1"),
        "killed": Run(seconds=0, code=137, reason="OOMKilled"),
        "stuck": Pending("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        "unpullable": Waiting("ImagePullBackOff", "no such image"),
        "endless": Run(),
        "told": Run(),
    }
    started = kubelet(lambda pod: plays[pod["metadata"]["name"]])
    cluster.apply(*map(pod, plays))
    good = ended(cluster.pod_in("good", "Succeeded"))
    assert (good["exitCode"], good["reason"], good["message"]) == (0, "Completed", "sha256:1")
    killed = ended(cluster.pod_in("killed", "Failed"))
    assert (killed["exitCode"], killed["reason"]) == (137, "OOMKilled")
    (condition,) = cluster.pod_in("stuck", "Pending")["status"]["conditions"]
    assert (condition["reason"], condition["status"]) == ("Unschedulable", "False")
    until(lambda: "ImagePullBackOff" in cluster.bed.kubectl("get", "pods", "-n", cluster.namespace), "ImagePullBackOff")
    cluster.bed.kubectl("wait", "--for=condition=Ready", "pod/endless", "-n", cluster.namespace, "--timeout=60s")
    cluster.pod_in("told", "Running")
    started.end(cluster.namespace, "told", code=3, message="enough")
    assert ended(cluster.pod_in("told", "Failed"))["message"] == "enough"


def test_a_deleted_pod_is_gone_and_a_container_of_a_deployment_comes_back(
    cluster: Cluster, kubelet: StartKubelet
) -> None:
    kubelet(lambda pod: Run(seconds=0.1, code=1) if pod["metadata"]["name"] == "again" else Run())
    cluster.apply(pod("again", restartPolicy="Always"), pod("endless"))
    cluster.pod_in("endless", "Running")
    cluster.bed.kubectl("delete", "pod", "endless", "-n", cluster.namespace, "--timeout=60s")
    assert cluster.get("pod", "endless") is None

    def restarted() -> bool:
        status = (cluster.get("pod", "again") or {})["status"].get("containerStatuses")
        return bool(status and status[0]["restartCount"] >= 2 and status[0]["lastState"]["terminated"]["exitCode"] == 1)

    until(restarted, "two restarts")


def test_hundreds_of_pods_are_played_at_once(cluster: Cluster, kubelet: StartKubelet) -> None:
    kubelet(lambda pod: Run(seconds=0.5))
    template = {"spec": pod("many")["spec"]}
    spec = {"completions": 200, "parallelism": 200, "template": template}
    cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "many"}, "spec": spec})
    cluster.bed.kubectl("wait", "--for=condition=Complete", "job/many", "-n", cluster.namespace, "--timeout=120s")


def test_pods_survive_a_restart_of_the_api_server(cluster: Cluster, kubelet: StartKubelet) -> None:
    started = kubelet(lambda pod: Run())
    cluster.apply(pod("before"))
    cluster.pod_in("before", "Running")
    cluster.bed.restart_apiserver(lambda: started.end(cluster.namespace, "before", message="ended unseen"))
    assert ended(cluster.pod_in("before", "Succeeded"))["message"] == "ended unseen"
    cluster.apply(pod("after"))
    cluster.pod_in("after", "Running")


JOB_SCRIPT = """
set -e
test "$(cat /etc/rstar/round.yaml)" = '{"round": 1}'
test "$(hostname)" = "$POD_NAME"
test "$TARGET" = 's3cret@'"$POD_IP"' $(NOT_KNOWN) $$(KEY)'
touch /cache/file
! touch /file
echo "the job runs"
echo -n "sha256:abc" > /dev/termination-log
"""


@needs_root
def test_a_pytorchjob_of_the_stock_operator_succeeds_with_a_real_process(
    cluster: Cluster, kubelet: StartKubelet
) -> None:
    started = kubelet(always_real)
    field = lambda path: {"valueFrom": {"fieldRef": {"fieldPath": path}}}  # noqa: E731
    container = {
        "name": "pytorch",
        "image": "none",
        "command": ["bash", "-c"],
        "args": [JOB_SCRIPT],
        "envFrom": [{"secretRef": {"name": "storage"}}],
        "env": [
            {"name": "POD_IP", **field("status.podIP")},
            {"name": "POD_NAME", **field("metadata.name")},
            {"name": "TARGET", "value": "$(KEY)@$(POD_IP) $(NOT_KNOWN) $$(KEY)"},
        ],
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "round", "mountPath": "/etc/rstar"}, {"name": "cache", "mountPath": "/cache"}],
    }
    item = {"path": "round.yaml", "fieldRef": {"fieldPath": "metadata.annotations['rstar.dev/round']"}}
    volumes = [{"name": "round", "downwardAPI": {"items": [item]}}, {"name": "cache", "emptyDir": {}}]
    template = {
        "metadata": {"annotations": {"rstar.dev/round": '{"round": 1}'}},
        "spec": {"containers": [container], "volumes": volumes},
    }
    master = {"replicas": 1, "restartPolicy": "Never", "template": template}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage"}, "stringData": {"KEY": "s3cret"}},
        {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "metadata": {"name": "job"},
            "spec": {"pytorchReplicaSpecs": {"Master": master}},
        },
    )
    cluster.pod_in("job-master-0", "Succeeded", "Failed")
    log = started.log(cluster.namespace, "job-master-0")
    assert ended(cluster.pod_in("job-master-0", "Succeeded", "Failed"))["exitCode"] == 0, log
    assert ended(cluster.pod_in("job-master-0", "Succeeded"))["message"] == "sha256:abc"
    assert "the job runs" in cluster.bed.kubectl("logs", "job-master-0", "-n", cluster.namespace)
    condition = "--for=condition=Succeeded"
    cluster.bed.kubectl("wait", condition, "pytorchjob/job", "-n", cluster.namespace, "--timeout=60s")


WEB = {
    "name": "web",
    "image": "none",
    "command": ["python", "-m", "http.server", "8000", "--bind", "$(POD_IP)"],
    "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    "readinessProbe": {"httpGet": {"port": 8000, "path": "/"}},
}
ADDRESSES = """
import socket, sys, time
def addresses(name):
    try:
        return {each[4][0] for each in socket.getaddrinfo(name, 8000)}
    except OSError:
        return set()
for wanted in (2, 1):
    while len(addresses("web")) != wanted or addresses("web") != addresses(f"web.{sys.argv[1]}.svc"):
        time.sleep(0.1)
    for address in addresses("web"):
        socket.create_connection((address, 8000)).close()
    print(wanted, "found", flush=True)
"""


@needs_root
def test_a_deployment_is_found_by_its_headless_services_name_and_followed(
    cluster: Cluster, kubelet: StartKubelet
) -> None:
    started = kubelet(always_real)
    labels = {"app": "web"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [WEB], "terminationGracePeriodSeconds": 1, "enableServiceLinks": False},
    }
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    service = {"clusterIP": "None", "selector": labels, "ports": [{"port": 8000}]}
    look = {"container": {"command": ["python", "-c", ADDRESSES, cluster.namespace]}}
    cluster.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
        pod("client", **look),
    )
    until(lambda: "2 found" in started.log(cluster.namespace, "client"), "two addresses")
    cluster.bed.kubectl("scale", "deployment/web", "--replicas=1", "-n", cluster.namespace)
    cluster.pod_in("client", "Succeeded")


@needs_root
def test_a_real_pod_speaks_to_the_api_as_its_service_account(cluster: Cluster, kubelet: StartKubelet) -> None:
    started = kubelet(always_real)
    arguments = ("--clusterrole=view", f"--serviceaccount={cluster.namespace}:default", "-n", cluster.namespace)
    cluster.bed.kubectl("create", "rolebinding", "view", *arguments)
    program = (
        "import kubernetes as k; k.config.load_incluster_config();"
        f"print([pod.metadata.name for pod in k.client.CoreV1Api().list_namespaced_pod('{cluster.namespace}').items])"
    )
    cluster.apply(pod("asks", container={"command": ["python", "-c", program]}))
    assert cluster.pod_in("asks", "Succeeded", "Failed")["status"]["phase"] == "Succeeded"
    assert "['asks']" in started.log(cluster.namespace, "asks")


@needs_root
def test_a_deleted_real_pod_may_end_its_work_and_is_killed_if_it_does_not(
    cluster: Cluster, kubelet: StartKubelet
) -> None:
    started = kubelet(always_real)
    heeds = "trap 'echo goodbye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    cluster.apply(
        pod("heeds", heeds, terminationGracePeriodSeconds=60),
        pod("ignores", "echo ready; sleep 1000 & wait", terminationGracePeriodSeconds=1),
    )
    for name in ("heeds", "ignores"):
        until(lambda name=name: "ready" in started.log(cluster.namespace, name), f"{name} ready")
        cluster.bed.kubectl("delete", "pod", name, "-n", cluster.namespace, "--timeout=30s")
    assert "goodbye" in started.log(cluster.namespace, "heeds")


@needs_root
def test_a_pod_that_lacks_its_secret_waits_and_says_so(cluster: Cluster, kubelet: StartKubelet) -> None:
    kubelet(always_real)
    cluster.apply(pod("waits", container={"envFrom": [{"secretRef": {"name": "storage"}}]}))

    def message() -> bool:
        text = json.dumps((cluster.get("pod", "waits") or {})["status"])
        return "CreateContainerConfigError" in text and 'secret \\"storage\\" not found' in json.loads(json.dumps(text))

    until(message, "CreateContainerConfigError")
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage"}, "stringData": {"KEY": "1"}})
    cluster.pod_in("waits", "Succeeded")
