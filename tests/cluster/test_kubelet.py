"""The test kubelet: scripted pods follow their script, real ones run as in a container."""

from __future__ import annotations

import json

from rstar_testbed.kubelet import Behaviour, Pending, Run, Waiting, always_real

from tests.cluster.conftest import StartKubelet
from tests.support.cluster.pods import NamespaceClient, needs_root, pod, terminated_state, wait_until


def test_scripted_pods_end_as_their_script_says(client: NamespaceClient, kubelet: StartKubelet) -> None:
    behaviours: dict[str, Behaviour] = {
        "good": Run(seconds=0.2, message="sha256:1"),
        "killed": Run(seconds=0, code=137, reason="OOMKilled"),
        "stuck": Pending("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        "unpullable": Waiting("ImagePullBackOff", "no such image"),
        "endless": Run(),
        "ended": Run(),
    }
    started = kubelet(lambda pod: behaviours[pod["metadata"]["name"]])
    client.apply(*map(pod, behaviours))
    good = terminated_state(client.pod_in("good", "Succeeded"))
    assert (good["exitCode"], good["reason"], good["message"]) == (0, "Completed", "sha256:1")
    killed = terminated_state(client.pod_in("killed", "Failed"))
    assert (killed["exitCode"], killed["reason"]) == (137, "OOMKilled")
    (condition,) = client.pod_in("stuck", "Pending")["status"]["conditions"]
    assert (condition["reason"], condition["status"]) == ("Unschedulable", "False")
    wait_until(
        lambda: "ImagePullBackOff" in client.bed.kubectl("get", "pods", "-n", client.namespace), "ImagePullBackOff"
    )
    client.bed.kubectl("wait", "--for=condition=Ready", "pod/endless", "-n", client.namespace, "--timeout=180s")
    client.pod_in("ended", "Running")
    started.end(client.namespace, "ended", code=3, message="enough")
    assert terminated_state(client.pod_in("ended", "Failed"))["message"] == "enough"


def test_a_deleted_pod_is_gone_and_a_failed_container_restarts(client: NamespaceClient, kubelet: StartKubelet) -> None:
    kubelet(lambda pod: Run(seconds=0.1, code=1) if pod["metadata"]["name"] == "restarting" else Run())
    client.apply(pod("restarting", restartPolicy="Always"), pod("endless"))
    client.pod_in("endless", "Running")
    client.bed.kubectl("delete", "pod", "endless", "-n", client.namespace, "--timeout=180s")
    assert client.get("pod", "endless") is None

    def restarted() -> bool:
        status = (client.get("pod", "restarting") or {})["status"].get("containerStatuses")
        return bool(status and status[0]["restartCount"] >= 2 and status[0]["lastState"]["terminated"]["exitCode"] == 1)

    wait_until(restarted, "two restarts")


def test_hundreds_of_pods_run_at_once(client: NamespaceClient, kubelet: StartKubelet) -> None:
    kubelet(lambda pod: Run(seconds=0.5))
    template = {"spec": pod("many")["spec"]}
    spec = {"completions": 200, "parallelism": 200, "template": template}
    client.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "many"}, "spec": spec})
    client.bed.kubectl("wait", "--for=condition=Complete", "job/many", "-n", client.namespace, "--timeout=180s")


def test_pods_survive_a_restart_of_the_api_server(client: NamespaceClient, kubelet: StartKubelet) -> None:
    started = kubelet(lambda pod: Run())
    client.apply(pod("before"))
    client.pod_in("before", "Running")
    client.bed.restart_apiserver(lambda: started.end(client.namespace, "before", message="ended while down"))
    assert terminated_state(client.pod_in("before", "Succeeded"))["message"] == "ended while down"
    client.apply(pod("after"))
    client.pod_in("after", "Running")


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
    client: NamespaceClient, kubelet: StartKubelet
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
    client.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage"}, "stringData": {"KEY": "s3cret"}},
        {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "metadata": {"name": "job"},
            "spec": {"pytorchReplicaSpecs": {"Master": master}},
        },
    )
    client.pod_in("job-master-0", "Succeeded", "Failed")
    log = started.log(client.namespace, "job-master-0")
    assert terminated_state(client.pod_in("job-master-0", "Succeeded", "Failed"))["exitCode"] == 0, log
    assert terminated_state(client.pod_in("job-master-0", "Succeeded"))["message"] == "sha256:abc"
    assert "the job runs" in client.bed.kubectl("logs", "job-master-0", "-n", client.namespace)
    condition = "--for=condition=Succeeded"
    client.bed.kubectl("wait", condition, "pytorchjob/job", "-n", client.namespace, "--timeout=180s")


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
def test_a_headless_services_name_resolves_to_its_pods_and_follows_changes(
    client: NamespaceClient, kubelet: StartKubelet
) -> None:
    started = kubelet(always_real)
    labels = {"app": "web"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [WEB], "terminationGracePeriodSeconds": 1, "enableServiceLinks": False},
    }
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    service = {"clusterIP": "None", "selector": labels, "ports": [{"port": 8000}]}
    look = {"container": {"command": ["python", "-c", ADDRESSES, client.namespace]}}
    client.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
        pod("client", **look),
    )
    wait_until(lambda: "2 found" in started.log(client.namespace, "client"), "two addresses")
    client.bed.kubectl("scale", "deployment/web", "--replicas=1", "-n", client.namespace)
    client.pod_in("client", "Succeeded")


@needs_root
def test_a_real_pod_uses_the_api_as_its_service_account(client: NamespaceClient, kubelet: StartKubelet) -> None:
    started = kubelet(always_real)
    arguments = ("--clusterrole=view", f"--serviceaccount={client.namespace}:default", "-n", client.namespace)
    client.bed.kubectl("create", "rolebinding", "view", *arguments)
    program = (
        "import kubernetes as k; k.config.load_incluster_config();"
        f"print([pod.metadata.name for pod in k.client.CoreV1Api().list_namespaced_pod('{client.namespace}').items])"
    )
    client.apply(pod("asks", container={"command": ["python", "-c", program]}))
    assert client.pod_in("asks", "Succeeded", "Failed")["status"]["phase"] == "Succeeded"
    assert "['asks']" in started.log(client.namespace, "asks")


@needs_root
def test_a_deleted_real_pod_gets_sigterm_and_is_killed_after_its_grace_period(
    client: NamespaceClient, kubelet: StartKubelet
) -> None:
    started = kubelet(always_real)
    handles = "trap 'echo goodbye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    client.apply(
        pod("handles", handles, terminationGracePeriodSeconds=60),
        pod("ignores", "echo ready; sleep 1000 & wait", terminationGracePeriodSeconds=1),
    )
    for name in ("handles", "ignores"):
        wait_until(lambda name=name: "ready" in started.log(client.namespace, name), f"{name} ready")
        client.bed.kubectl("delete", "pod", name, "-n", client.namespace, "--timeout=180s")
    assert "goodbye" in started.log(client.namespace, "handles")


@needs_root
def test_a_pod_without_its_secret_waits_and_reports_the_reason(client: NamespaceClient, kubelet: StartKubelet) -> None:
    kubelet(always_real)
    client.apply(pod("waits", container={"envFrom": [{"secretRef": {"name": "storage"}}]}))

    def message() -> bool:
        text = json.dumps((client.get("pod", "waits") or {})["status"])
        return "CreateContainerConfigError" in text and 'secret \\"storage\\" not found' in json.loads(json.dumps(text))

    wait_until(message, "CreateContainerConfigError")
    client.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage"}, "stringData": {"KEY": "1"}})
    client.pod_in("waits", "Succeeded")
