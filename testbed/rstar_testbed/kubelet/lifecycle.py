"""The lifecycle of one pod on the test kubelet: bound, started, restarted, terminated, deleted.

It reports the pod's status to the API. Init containers count as done.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from dataclasses import replace
from typing import Any, Final

from rstar_testbed.kubelet.api import Api, ApiError
from rstar_testbed.kubelet.behaviour import Behaviour, Pending, Pod, Run, Waiting
from rstar_testbed.kubelet.status import Container, pod_status, restarts, unschedulable

# A tenth of the real kubelet's or less: tests check that containers restart, not how long it takes.
_FIRST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 10.0
# How a program ends that heeds SIGTERM.
_TERMINATED: Final = Run(seconds=0, code=143)


def now() -> str:
    """Return the time in the API's form."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def path_of(pod: Pod) -> str:
    """Return the URL path of the pod."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


class PodLifecycle:
    """Runs one pod from its first event on the watch to its deletion."""

    def __init__(self, api: Api, pod: Pod, behaviour: Behaviour, node: str) -> None:
        self.pod = pod
        self.runs = False
        self._api = api
        self._behaviour = behaviour
        self._node = node
        self._bound = ""
        self._containers = {each["name"]: Container() for each in pod["spec"]["containers"]}
        self._outcome = _TERMINATED
        self._outcome_set = asyncio.Event()
        self._ending = asyncio.Event()
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(self._run_pod())
        self._deletion: asyncio.Task[None] | None = None

    def update(self, pod: Pod) -> None:
        """Handle a change of the pod."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp") and self._deletion is None:
            self._deletion = asyncio.create_task(self._delete())

    def end(self, outcome: Run) -> None:
        """End the running containers with the code, reason and message of ``outcome``, whatever their script says."""
        self._outcome = outcome
        self._outcome_set.set()

    async def stop(self) -> None:
        """End everything at once without a report to the API: the pod is deleted, or the kubelet stops."""
        self._ending.set()
        own = asyncio.current_task()
        tasks = [task for task in (self.task, self._deletion) if task is not None and task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_pod(self) -> None:
        if isinstance(self._behaviour, Pending):
            await self._patch(unschedulable(self._behaviour.message, now()))
            return
        if not await self._bind():
            return
        if isinstance(self._behaviour, Waiting):
            for name in self._containers:
                self._set(name, Container(reason=self._behaviour.reason, message=self._behaviour.message))
            await self._report()
            return
        self.runs = True
        reporter = asyncio.create_task(self._report_changes())
        try:
            await asyncio.gather(*(self._run(self._behaviour, name) for name in self._containers))
        finally:
            self.runs = False
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
        await self._report()

    async def _bind(self) -> bool:
        """Bind the pod to this node; False if another node has it, or it is deleted."""
        metadata = self.pod["metadata"]
        binding = {
            "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._node},
        }
        try:
            await self._api.call("POST", path_of(self.pod) + "/binding", binding)
        except ApiError as error:
            if error.status not in (404, 409) or not await self._is_bound():
                return False
        self._bound = now()
        return True

    async def _is_bound(self) -> bool:
        """Return whether an earlier try bound it, and only the answer was lost."""
        try:
            pod = await self._api.call("GET", path_of(self.pod))
        except ApiError:
            return False
        return bool(pod["metadata"]["uid"] == self.pod["metadata"]["uid"] and pod["spec"].get("nodeName") == self._node)

    async def _run(self, script: Run, name: str) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            self._set(name, replace(self._containers[name].run(now()), ready=script.ready))
            outcome = await self._follow(script)
            ended = self._containers[name].end(now(), outcome.code, outcome.reason, outcome.message)
            if self._ending.is_set() or not restarts(self.pod, ended):
                self._set(name, ended)
                return
            self._set(name, ended.back_off())
            if await self._sleep(backoff):
                self._set(name, ended)
                return
            backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)

    async def _follow(self, script: Run) -> Run:
        """Wait for the script's time or for :meth:`end`; return which of them says how the container ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(script.seconds):
                await self._outcome_set.wait()
            self._outcome_set.clear()
            return self._outcome
        return script

    async def _delete(self) -> None:
        self._ending.set()
        self.end(_TERMINATED)
        await asyncio.gather(self.task, return_exceptions=True)
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod["metadata"]["uid"]}}
        with contextlib.suppress(ApiError):  # Gone already, or there is another pod of that name.
            await self._api.call("DELETE", path_of(self.pod), body)

    def _set(self, name: str, container: Container) -> None:
        if self._containers[name] != container:
            self._containers[name] = container
            self._changed.set()

    async def _sleep(self, seconds: float) -> bool:
        """Sleep; return True at once if the pod is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        return self._ending.is_set()

    async def _report_changes(self) -> None:
        while True:
            await self._changed.wait()
            await self._report()

    async def _report(self) -> None:
        self._changed.clear()
        await self._patch(pod_status(self.pod, self._containers, bound=self._bound, now=now()))

    async def _patch(self, status: dict[str, Any]) -> None:
        # As the kubelet of Kubernetes: conditions of other writers stay, also those that it has not seen yet.
        path = path_of(self.pod) + "/status"
        try:
            self.pod = await self._api.patch(path, {"status": status}, strategic=True)
        except ApiError as error:
            if error.status != 404:
                raise
