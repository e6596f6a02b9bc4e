"""What pods say: why they wait, how their container ended, and its last words. Pure; it judges nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rstar.cluster.api import Json
from rstar_operator.snapshot import parse_time

_STARTING: Final = {"ContainerCreating", "PodInitializing"}
_KILLED: Final = 137
REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended. ``message`` is what it left as its termination message."""

    exit_code: int
    reason: str
    message: str
    finished_at: datetime | None

    @property
    def result(self) -> dict[str, Any]:
        """The message as the object that a stage program writes; {} when it wrote none."""
        try:
            found = json.loads(self.message)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def sentence(self) -> str:
        """Return why it failed: the program's own words, else the node's, else its last line."""
        said = self.result.get("error")
        if self.reason == "OOMKilled":
            return f"out of memory (exit code {self.exit_code}): raise memory in spec.cluster.resources"
        if said:
            return cut(str(said))
        if self.exit_code == _KILLED:
            # Its last line is of its work, not of its end.
            return f"killed (exit code {self.exit_code}), by its node for memory or by somebody"
        # Without a message of its own, a program's last lines are the message.
        last = next((line for line in reversed(self.message.splitlines()) if line.strip()), "")
        reason = f", {self.reason}" if self.reason not in {"", "Error"} else ""
        return cut(f"exit code {self.exit_code}{reason}{': ' if last else ''}{last.strip()}")


def ended(pod: Json) -> Ended | None:
    """Return how the pod's container ended, or None while it has not. A pod that was evicted counts as ended."""
    status: dict[str, Any] = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        state = container.get("state", {}).get("terminated")
        if state is not None:
            finished = state.get("finishedAt")
            return Ended(
                state.get("exitCode", 1),
                state.get("reason", ""),
                state.get("message", ""),
                parse_time(finished) if finished else None,
            )
    if status.get("phase") == "Failed":
        return Ended(1, status.get("reason", "Failed"), status.get("message", ""), None)
    return None


def disrupted(pod: Json) -> bool:
    """Say whether the cluster took the pod's node away.

    A node that is short of disk or memory does not count: the pod may be the cause.
    """
    status: dict[str, Any] = pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    found = conditions.get("DisruptionTarget")
    return found is not None and (found.get("reason") != "TerminationByKubelet" or status.get("reason") != "Evicted")


def waiting_for(pods: Iterable[Json]) -> str:
    """Return what keeps pods from running: no node, no image, or nothing that is known."""
    for pod in pods:
        status: dict[str, Any] = pod.get("status", {})
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return cut(condition.get("message") or condition.get("reason", ""))
        for container in status.get("containerStatuses", []):
            waiting = container.get("state", {}).get("waiting")
            if waiting and waiting.get("reason") not in _STARTING:
                return cut(f"{waiting.get('reason', 'waiting')}: {waiting.get('message', '')}".removesuffix(": "))
    return ""


def last_crash(pods: Iterable[Json]) -> tuple[int, Ended] | None:
    """Return the most restarts of a container among ``pods``, and how it ended last; None when none ever did."""
    worst: tuple[int, Ended] | None = None
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            states = (container.get("state", {}), container.get("lastState", {}))
            terminated = next((s["terminated"] for s in states if "terminated" in s), None)
            if terminated is None:
                continue
            # The first end is not yet a restart.
            times = max(container.get("restartCount", 0), 1)
            if worst is None or times > worst[0]:
                end = Ended(
                    terminated.get("exitCode", 1), terminated.get("reason", ""), terminated.get("message", ""), None
                )
                worst = (times, end)
    return worst


def cut(text: str) -> str:
    """Return one line of at most ``REASON_LENGTH`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_LENGTH else f"{line[: REASON_LENGTH - 3]}..."
