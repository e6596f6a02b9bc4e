"""The test kubelet: pods follow their script."""

from __future__ import annotations

from rstar_testbed.kubelet import Behaviour, Pending, Run, Waiting

from tests.cluster.conftest import StartKubelet
from tests.support.cluster.pods import NamespaceClient, pod, terminated_state, wait_until


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
