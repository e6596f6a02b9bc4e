"""The logs of a group of pods, as one stream of lines.

Pods are found by label in one request, whatever their number; each that has begun is read by a thread of its own
while it is followed. A stream that breaks off while its pod still runs is taken up where it stopped, by the time
stamps of its lines. The module refuses to know what the pods are for.
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

LOOK_SECONDS: Final = 2.0
_PATIENCE: Final = 15
"""Looks in a row that may fail before a follower gives up."""
_STAMP: Final = re.compile(rb"((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?)(Z|[+-]\d\d:\d\d) ?")

Line = tuple[str, str]
"""(name of the pod, one line of its log)"""


@dataclass(frozen=True, slots=True)
class PodLogs:
    """The logs of ``container`` in the pods that ``selector`` matches. ``tell`` is told what a pod waits for, once."""

    cluster: Cluster
    namespace: str
    selector: str
    container: str
    tell: Callable[[str], None]

    def read(self, last: int | None = None) -> Iterator[Line]:
        """Yield what there is, pod by pod; ``last``: so many lines of each. Raises ``LookupError`` without pods."""
        pods = self._pods()
        if not pods:
            raise LookupError(f"there are no pods with {self.selector}")
        for pod in pods:
            name = pod["metadata"]["name"]
            if waiting := waits_for(pod, self.container):
                self.tell(f"{name} has not begun: {waiting}")
                continue
            chunks = self.cluster.log(self.namespace, name, container=self.container, tail=last)
            yield from ((name, _text(line)) for line in _lines(chunks))

    def follow(self, may_come: Callable[[], bool], last: int | None = None) -> Iterator[Line]:
        """Yield lines as they come, until all pods have ended or are gone.

        Pods are waited for while they ``may_come``. Raises ``LookupError`` when none has come.
        """
        lines: SimpleQueue[Line] = SimpleQueue()
        readers: dict[str, Thread] = {}
        told: set[tuple[str, str]] = set()
        failures = 0
        while True:
            try:
                pods, failures = self._pods(), 0
            except ClusterError as error:
                failures += 1
                if not is_transient(error) or failures > _PATIENCE:
                    raise
                yield from _taken(lines, LOOK_SECONDS)
                continue
            if not pods and not readers and not may_come():
                raise LookupError(f"there are no pods with {self.selector}")
            for pod in pods:
                name = pod["metadata"]["name"]
                waiting = waits_for(pod, self.container)
                if not waiting and name not in readers:
                    readers[name] = Thread(target=self._stream, args=(name, last, lines.put), daemon=True)
                    readers[name].start()
                elif waiting and (name, waiting) not in told:
                    told.add((name, waiting))
                    self.tell(f"{name} has not begun: {waiting}")
            over = bool(readers) and all(_ended(pod) for pod in pods)
            over = over and not any(thread.is_alive() for thread in readers.values())
            yield from _taken(lines, 0.0 if over else LOOK_SECONDS)
            if over:
                return

    def _pods(self) -> list[Json]:
        return sorted(
            self.cluster.list(PODS, self.namespace, self.selector),
            key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]),
        )

    def _stream(self, name: str, last: int | None, put: Callable[[Line], None]) -> None:
        """Read one pod's log to its end; what it says last before an error is kept."""
        seen, since = b"", ""
        while True:
            before = seen
            try:
                chunks = self.cluster.log(
                    self.namespace,
                    name,
                    container=self.container,
                    follow=True,
                    tail=None if since else last,
                    since=since,
                    timestamps=True,
                )
                for line in _lines(chunks):
                    stamp = _STAMP.match(line)
                    if stamp is None:
                        put((name, _text(line)))
                    elif stamp[1] > before:  # one taken up again begins with the whole second it stopped in
                        seen, since = stamp[1], (stamp[2] + stamp[3]).decode()
                        put((name, _text(line[stamp.end() :])))
            except NotFoundError:
                return
            except ClusterError as error:
                if not is_transient(error):
                    self.tell(f"{name}: {error}")
                    return
            if self._over(name):
                return
            time.sleep(LOOK_SECONDS)

    def _over(self, name: str) -> bool:
        try:
            pod = self.cluster.get(PODS, self.namespace, name)
        except ClusterError as error:
            return not is_transient(error)
        return pod is None or _ended(pod)


def waits_for(pod: Json, container: str) -> str:
    """Return what a pod waits for before ``container`` runs; '' when it has begun."""
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


def _taken(lines: SimpleQueue[Line], seconds: float) -> Iterator[Line]:
    """Yield what comes within ``seconds``; 0: what is there already."""
    until = time.monotonic() + seconds
    while not seconds or time.monotonic() < until:
        try:
            yield lines.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
