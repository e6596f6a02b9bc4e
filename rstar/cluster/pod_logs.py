"""The logs of a group of pods, as one stream of lines.

One request finds all pods by label. Each running pod is followed by a thread. A stream that breaks off while its pod
runs is resumed where it stopped, by the timestamps of its lines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from rstar.cluster.api import PODS, Cluster, ClusterError, Json, NotFoundError
from rstar.cluster.api_errors import is_transient

POLL_SECONDS: Final = 2.0
_MOST_FAILURES: Final = 15
"""Failed requests in a row after which following ends."""
_STAMP: Final = re.compile(rb"((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?)(Z|[+-]\d\d:\d\d) ?")

Line = tuple[str, str]
"""(name of the pod, one line of its log)"""


@dataclass(frozen=True, slots=True)
class PodLogs:
    """The logs of one container of each pod that ``selector`` matches. ``report`` is called once per reason why a pod waits.

    ``containers``: its possible names, of which each pod has one.
    """

    cluster: Cluster
    namespace: str
    selector: str
    containers: tuple[str, ...]
    report: Callable[[str], None]

    def read(self, last: int | None = None) -> Iterator[Line]:
        """Yield the logs pod by pod; ``last``: only so many lines of each. Raises ``LookupError`` without pods."""
        pods = self._pods()
        if not pods:
            raise LookupError(f"there are no pods with {self.selector}")
        for pod in pods:
            name = pod["metadata"]["name"]
            container = self._container(pod)
            if waiting := waiting_reason(pod, container):
                self.report(f"{name} has not started: {waiting}")
                continue
            chunks = self.cluster.log(self.namespace, name, container=container, tail=last)
            yield from ((name, _text(line)) for line in _lines(chunks))

    def follow(self, may_come: Callable[[], bool], last: int | None = None) -> Iterator[Line]:
        """Yield lines as they come, until all pods have ended or are gone.

        While ``may_come()`` is true, waits for the first pod. Raises ``LookupError`` when there is none.
        """
        lines: SimpleQueue[Line] = SimpleQueue()
        readers: dict[str, Thread] = {}
        reported: set[tuple[str, str]] = set()
        failures = 0
        while True:
            try:
                pods, failures = self._pods(), 0
            except ClusterError as error:
                failures += 1
                if not is_transient(error) or failures > _MOST_FAILURES:
                    raise
                yield from _drain(lines, POLL_SECONDS)
                continue
            if not pods and not readers and not may_come():
                raise LookupError(f"there are no pods with {self.selector}")
            for pod in pods:
                name = pod["metadata"]["name"]
                container = self._container(pod)
                waiting = waiting_reason(pod, container)
                if not waiting and name not in readers:
                    readers[name] = Thread(target=self._stream, args=(name, container, last, lines.put), daemon=True)
                    readers[name].start()
                elif waiting and (name, waiting) not in reported:
                    reported.add((name, waiting))
                    self.report(f"{name} has not started: {waiting}")
            done = bool(readers) and all(_ended(pod) for pod in pods)
            done = done and not any(thread.is_alive() for thread in readers.values())
            yield from _drain(lines, 0.0 if done else POLL_SECONDS)
            if done:
                return

    def _pods(self) -> list[Json]:
        return sorted(
            self.cluster.list(PODS, self.namespace, self.selector),
            key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]),
        )

    def _container(self, pod: Json) -> str:
        found = {container["name"] for container in pod.get("spec", {}).get("containers", [])}
        return next((name for name in self.containers if name in found), self.containers[0])

    def _stream(self, name: str, container: str, last: int | None, put: Callable[[Line], None]) -> None:
        """Read one pod's log to its end."""
        seen, since = b"", ""
        while True:
            before = seen
            try:
                chunks = self.cluster.log(
                    self.namespace,
                    name,
                    container=container,
                    follow=True,
                    tail=None if since else last,
                    since=since,
                    timestamps=True,
                )
                for line in _lines(chunks):
                    stamp = _STAMP.match(line)
                    if stamp is None:
                        put((name, _text(line)))
                    elif stamp[1] > before:  # a resumed stream repeats the second in which it stopped
                        seen, since = stamp[1], (stamp[2] + stamp[3]).decode()
                        put((name, _text(line[stamp.end() :])))
            except NotFoundError:
                return
            except ClusterError as error:
                if not is_transient(error):
                    self.report(f"{name}: {error}")
                    return
            if self._pod_ended(name):
                return
            time.sleep(POLL_SECONDS)

    def _pod_ended(self, name: str) -> bool:
        try:
            pod = self.cluster.get(PODS, self.namespace, name)
        except ClusterError as error:
            return not is_transient(error)
        return pod is None or _ended(pod)


def waiting_reason(pod: Json, container: str) -> str:
    """Return why ``container`` does not run yet; '' when it has started."""
    status: dict[str, Any] = pod.get("status") or {}
    states = [item.get("state") or {} for item in status.get("containerStatuses") or () if item["name"] == container]
    if any("running" in state or "terminated" in state for state in states):
        return ""
    if status.get("phase", "Pending") != "Pending":
        return ""
    waiting = next((state["waiting"] for state in states if "waiting" in state), None)
    if waiting is not None:
        return ": ".join(text for text in (waiting.get("reason", ""), waiting.get("message", "")) if text) or "Pending"
    unmet = [
        item for item in status.get("conditions") or () if item["type"] == "PodScheduled" and item["status"] != "True"
    ]
    return next((item["message"] for item in unmet if item.get("message")), "Pending")


def _ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _drain(lines: SimpleQueue[Line], seconds: float) -> Iterator[Line]:
    """Yield the lines that come within ``seconds``; 0: only those that are queued."""
    until = time.monotonic() + seconds
    while not seconds or time.monotonic() < until:
        try:
            yield lines.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
