"""The status of a pod follows from the states of its containers."""

from __future__ import annotations

from typing import Any

import pytest
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
    status = pod_status(pod(), {"c": GOOD}, bound="t0", now="t3")
    state = status["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"], state["message"]) == (0, "Completed", "message")
    assert (state["startedAt"], state["finishedAt"]) == ("t1", "t2")
    killed = RUNNING.end("t2", 137, "OOMKilled", "")
    assert (killed.reason, BAD.reason) == ("OOMKilled", "Error")


def test_an_unchanged_condition_keeps_the_time_of_its_last_change() -> None:
    seen = pod()
    seen["status"] = pod_status(seen, {"c": RUNNING}, bound="t0", now="t1")
    later = pod_status(seen, {"c": GOOD}, bound="t0", now="t2")
    times = {each["type"]: each["lastTransitionTime"] for each in later["conditions"]}
    assert times["Ready"] == "t1"
    assert times["PodReadyToStartContainers"] == "t2"
