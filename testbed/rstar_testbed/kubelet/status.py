"""The status of a pod in the API's form, from the states of its containers. Pure: no clock, no network.

containers all waiting -> Pending | any running, or to be restarted -> Running | all ended: Succeeded or Failed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from rstar_testbed.kubelet.behaviour import Pod


@dataclass(frozen=True)
class Container:
    """The state of one container. ``started`` and ``finished`` are timestamps in the API's form."""

    state: str = "waiting"  # waiting | running | terminated
    ready: bool = False
    restarts: int = 0
    reason: str = "ContainerCreating"
    message: str = ""
    code: int = 0
    started: str = ""
    finished: str = ""
    last: Container | None = None

    def run(self, at: str) -> Container:
        """Return the state once it has started."""
        return replace(self, state="running", ready=False, reason="", message="", started=at, finished="")

    def end(self, at: str, code: int, reason: str, message: str) -> Container:
        """Return the state once it has ended."""
        reason = reason or ("Completed" if code == 0 else "Error")
        return replace(
            self, state="terminated", ready=False, code=code, reason=reason, message=message, finished=at,
            started=self.started or at,
        )  # fmt: skip

    def back_off(self) -> Container:
        """Return the state of an ended container that will be started again."""
        return Container(
            reason="CrashLoopBackOff",
            message="back-off restarting failed container",
            restarts=self.restarts + 1,
            last=self,
        )


_TERMINAL: Final = ("Succeeded", "Failed")


def phase(containers: Mapping[str, Container]) -> str:
    """Return the phase of a pod whose ended containers are not started again."""
    states = [each.state for each in containers.values()]
    if all(state == "terminated" for state in states):
        return "Failed" if any(each.code for each in containers.values()) else "Succeeded"
    if all(state == "waiting" for state in states) and not any(each.last for each in containers.values()):
        return "Pending"
    return "Running"


def restarts(pod: Pod, container: Container) -> bool:
    """Return whether the pod's restart policy starts an ended container again."""
    policy = pod["spec"].get("restartPolicy", "Always")
    return policy == "Always" or (policy == "OnFailure" and container.code != 0)


def _state(container: Container) -> dict[str, Any]:
    match container.state:
        case "waiting":
            return {"waiting": {"reason": container.reason, "message": container.message}}
        case "running":
            return {"running": {"startedAt": container.started}}
        case _:
            return {
                "terminated": {
                    "exitCode": container.code,
                    "reason": container.reason,
                    "message": container.message,
                    "startedAt": container.started,
                    "finishedAt": container.finished,
                }
            }


def _container_status(pod: Pod, name: str, container: Container) -> dict[str, Any]:
    image = next(each["image"] for each in pod["spec"]["containers"] if each["name"] == name)
    return {
        "name": name,
        "image": image,
        "imageID": f"rstar-testbed://{image}",
        "containerID": f"rstar-testbed://{pod['metadata']['uid']}/{name}/{container.restarts}",
        "ready": container.ready,
        "started": container.state == "running",
        "restartCount": container.restarts,
        "state": _state(container),
        "lastState": _state(container.last) if container.last else {},
    }


def _init_status(container: dict[str, Any], at: str) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"rstar-testbed://{container['image']}",
        "ready": True,
        "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": at, "finishedAt": at}},
    }


def _condition(kind: str, holds: bool, at: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "lastTransitionTime": at,
        "reason": reason,
        "message": message,
    }


def unschedulable(message: str, at: str) -> dict[str, Any]:
    """Return the status of a pod that the scheduler cannot place."""
    return {"phase": "Pending", "conditions": [_condition("PodScheduled", False, at, "Unschedulable", message)]}


def pod_status(pod: Pod, containers: Mapping[str, Container], *, bound: str, now: str) -> dict[str, Any]:
    """Return the status of a pod that is bound, with the conditions that the kubelet itself writes."""
    current = phase(containers)
    ready = all(each.ready for each in containers.values())
    done = "PodCompleted" if current in _TERMINAL else "" if ready else "ContainersNotReady"
    previous = {each["type"]: each for each in pod.get("status", {}).get("conditions", [])}
    holds = {
        "PodReadyToStartContainers": (current not in _TERMINAL, ""),
        "Initialized": (True, ""),
        "Ready": (ready, done),
        "ContainersReady": (ready, done),
        "PodScheduled": (True, ""),
    }
    conditions = []
    for kind, (value, reason) in holds.items():
        condition = _condition(kind, value, now, reason)
        before = previous.get(kind)
        if before and before["status"] == condition["status"]:
            condition["lastTransitionTime"] = before.get("lastTransitionTime") or now
        conditions.append(condition)
    return {
        "phase": current,
        "conditions": conditions,
        "startTime": bound,
        "containerStatuses": [_container_status(pod, name, each) for name, each in containers.items()],
        "initContainerStatuses": [_init_status(each, bound) for each in pod["spec"].get("initContainers", [])],
    }
