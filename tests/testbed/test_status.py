"""The status of a pod follows from the states of its containers."""

from __future__ import annotations

from typing import Any

import pytest
from rstar_testbed.kubelet.hosts import hosts_text, services_of
from rstar_testbed.kubelet.status import Container, phase, pod_status, restarts

RUNNING = Container().run("t1")
GOOD = RUNNING.end("t2", 0, "", "message")
BAD = RUNNING.end("t2", 1, "", "")


def pod(policy: str = "Never") -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "lab", "uid": "1"},
        "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]},
    }


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([Container()], "Pending"),
        ([Container(), RUNNING], "Running"),
        ([GOOD, RUNNING], "Running"),
        ([GOOD, GOOD], "Succeeded"),
        ([GOOD, BAD], "Failed"),
        ([BAD.back_off()], "Running"),
    ],
)
def test_the_phase_follows_from_the_containers(containers: list[Container], expected: str) -> None:
    assert phase({str(index): each for index, each in enumerate(containers)}) == expected


@pytest.mark.parametrize(
    ("policy", "container", "expected"),
    [("Never", BAD, False), ("OnFailure", GOOD, False), ("OnFailure", BAD, True), ("Always", GOOD, True)],
)
def test_the_restart_policy_decides_whether_an_ended_container_restarts(
    policy: str, container: Container, expected: bool
) -> None:
    assert restarts(pod(policy), container) is expected


def test_an_ended_containers_status_has_code_reason_and_message() -> None:
    status = pod_status(pod(), {"c": GOOD}, address="198.18.0.1", node_address="127.0.0.1", bound="t0", now="t3")
    state = status["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"], state["message"]) == (0, "Completed", "message")
    assert (state["startedAt"], state["finishedAt"]) == ("t1", "t2")
    killed = RUNNING.end("t2", 137, "OOMKilled", "")
    assert (killed.reason, BAD.reason) == ("OOMKilled", "Error")


def test_an_unchanged_condition_keeps_the_time_of_its_last_change() -> None:
    seen = pod()
    arguments = {"address": "a", "node_address": "n", "bound": "t0"}
    seen["status"] = pod_status(seen, {"c": RUNNING}, now="t1", **arguments)
    later = pod_status(seen, {"c": GOOD}, now="t2", **arguments)
    times = {each["type"]: each["lastTransitionTime"] for each in later["conditions"]}
    assert times["Ready"] == "t1"
    assert times["PodReadyToStartContainers"] == "t2"


def test_a_service_resolves_to_the_addresses_of_its_ready_pods_only() -> None:
    def endpoint(address: str, ready: bool) -> dict[str, Any]:
        return {"addresses": [address], "conditions": {"ready": ready}}

    def slice_of(service: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": service}
        return {"metadata": {"namespace": "lab", "labels": labels}, "endpoints": list(endpoints)}

    services = services_of(
        [
            slice_of("web", endpoint("198.18.0.2", True), endpoint("198.18.0.3", False)),
            slice_of("web", endpoint("198.18.0.1", True)),
            {"metadata": {"namespace": "lab"}, "endpoints": None},
        ]
    )
    assert services == {("lab", "web"): ["198.18.0.1", "198.18.0.2"]}
    lines = hosts_text(pod(), "198.18.0.9", services | {("other", "db"): ["198.18.0.5"]}).splitlines()
    assert "198.18.0.9 p" in lines
    assert "198.18.0.1 web.lab.svc.cluster.local web.lab.svc web.lab web" in lines
    assert "198.18.0.5 db.other.svc.cluster.local db.other.svc db.other" in lines
