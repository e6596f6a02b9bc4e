"""Reads pods: why they wait, how their container ended, and its termination message. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rstar.cluster.api import Json
from rstar.rounds.programs import StageResult, read_result
from rstar_operator.snapshot import parse_time

_STARTING: Final = {"ContainerCreating", "PodInitializing"}
_KILLED: Final = 137
REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How a container ended. ``message`` is its termination message."""

    exit_code: int
    reason: str
    message: str
    finished_at: datetime | None

    @property
    def result(self) -> StageResult:
        """The result of a stage program, read from the termination message."""
        return read_result(self.exit_code, self.message)

    def sentence(self) -> str:
        """Return why it failed: the program's own error, else the node's reason, else the last line of the log tail."""
        if self.reason == "OOMKilled":
            return f"out of memory (exit code {self.exit_code}): raise memory in spec.cluster.resources"
        if error := self.result.error:
            return cut(error)
        if self.exit_code == _KILLED:
            # A killed program logs nothing about its end: the last line would mislead.
            return f"killed (exit code {self.exit_code}), by its node for memory or by somebody"
        # Kubernetes takes the log tail where the program has written no termination message.
        last = next((line for line in reversed(self.message.splitlines()) if line.strip()), "")
        reason = f", {self.reason}" if self.reason not in {"", "Error"} else ""
        return cut(f"exit code {self.exit_code}{reason}{': ' if last else ''}{last.strip()}")


def container_end(pod: Json) -> ContainerEnd | None:
    """Return how the pod's container ended, or None while it has not. In an evicted pod it counts as ended."""
    status: dict[str, Any] = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        state = container.get("state", {}).get("terminated")
        if state is not None:
            finished = state.get("finishedAt")
            return ContainerEnd(
                state.get("exitCode", 1),
                state.get("reason", ""),
                state.get("message", ""),
                parse_time(finished) if finished else None,
            )
    if status.get("phase") == "Failed":
        return ContainerEnd(1, status.get("reason", "Failed"), status.get("message", ""), None)
    return None


def disrupted(pod: Json) -> bool:
    """Return whether the cluster took the pod's node away.

    A node that is short of disk or memory does not count: the pod may be the cause.
    """
    status: dict[str, Any] = pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    found = conditions.get("DisruptionTarget")
    return found is not None and (found.get("reason") != "TerminationByKubelet" or status.get("reason") != "Evicted")


def waiting_reason(pods: Iterable[Json]) -> str:
    """Return why the pods do not run yet, such as no node or no image; '' when no reason is known."""
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


def last_crash(pods: Iterable[Json]) -> tuple[int, ContainerEnd] | None:
    """Return the most restarts of a container among ``pods`` and how it last ended; None when none has ended."""
    worst: tuple[int, ContainerEnd] | None = None
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            states = (container.get("state", {}), container.get("lastState", {}))
            terminated = next((s["terminated"] for s in states if "terminated" in s), None)
            if terminated is None:
                continue
            # A container that ended for the first time has not been restarted yet.
            times = max(container.get("restartCount", 0), 1)
            if worst is None or times > worst[0]:
                end = ContainerEnd(
                    terminated.get("exitCode", 1), terminated.get("reason", ""), terminated.get("message", ""), None
                )
                worst = (times, end)
    return worst


def cut(text: str) -> str:
    """Return one line of at most ``REASON_LENGTH`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_LENGTH else f"{line[: REASON_LENGTH - 3]}..."
