"""The test kubelet: watches pods and runs the lifecycle of each.

One thread with one event loop and one watch of pods; no polling. Several kubelets may share a cluster if each has a namespace
of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import string
import threading
import traceback
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from rstar_testbed.errors import TestbedError
from rstar_testbed.kubelet.api import Api, ApiError
from rstar_testbed.kubelet.behaviour import Behaviour, ChooseBehaviour, Pending, Pod, Run, Waiting
from rstar_testbed.kubelet.lifecycle import PodLifecycle, path_of
from rstar_testbed.kubelet.node import keep_alive, register, unregister


class Kubelet:
    """A node for the pods of one namespace or of all. ``choose`` returns the behaviour of each pod. A context manager.

    Leaving the context deletes the node and its pods, and raises the first error that happened inside.
    """

    def __init__(self, kubeconfig: Path, choose: ChooseBehaviour, *, namespace: str | None = None) -> None:
        self.name = "testbed-" + "".join(random.choices(string.ascii_lowercase, k=6))
        self._kubeconfig = kubeconfig
        self._choose = choose
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._pods: dict[str, PodLifecycle] = {}
        self._errors: list[BaseException] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name=self.name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        """Start; return when the node is Ready and the watch of pods begins."""
        self._thread.start()
        self._ready.wait()
        if self._errors:
            raise self._errors[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; raise the first error inside, unless another one is being raised."""
        if self._loop and self._stop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._errors and error is None:
            raise self._errors[0]

    def end(self, namespace: str, pod: str, *, code: int = 0, message: str = "", reason: str = "") -> None:
        """End the running containers of a pod now, whatever its script says."""
        assert self._loop
        outcome = Run(seconds=0, code=code, message=message, reason=reason)
        asyncio.run_coroutine_threadsafe(self._end(namespace, pod, outcome), self._loop).result()

    async def _end(self, namespace: str, pod: str, outcome: Run) -> None:
        for found in self._pods.values():
            metadata = found.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod) and found.runs:
                found.end(outcome)
                return
        raise TestbedError(f"Pod {pod} in namespace {namespace} does not run on this kubelet, or not yet.")

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with Api(self._kubeconfig) as self._api:
            await register(self._api, self.name)
            tasks = [self._start(keep_alive(self._api, self.name)), self._start(self._watch_pods())]
            self._ready.set()
            await self._stop.wait()
            for task in tasks:
                task.cancel()
            await self._leave()

    async def _leave(self) -> None:
        self._api.tries = 1
        lifecycles = list(self._pods.values())
        await asyncio.gather(*(each.stop() for each in lifecycles))
        for each in lifecycles:
            with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError):
                await self._api.call("DELETE", path_of(each.pod), {"gracePeriodSeconds": 0})
        await unregister(self._api, self.name)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        traceback.print_exception(error)
        self._errors.append(error)

    async def _watch_pods(self) -> None:
        async for kind, pod in self._api.watch(self._pods_path):
            uid = pod["metadata"]["uid"]
            lifecycle = self._pods.get(uid)
            if kind == "DELETED":
                if lifecycle:
                    del self._pods[uid]
                    self._start(lifecycle.stop())
            elif lifecycle:
                lifecycle.update(pod)
            elif self._is_unbound(pod):
                self._pods[uid] = self._start_pod(pod)

    def _is_unbound(self, pod: Pod) -> bool:
        spec, metadata = pod["spec"], pod["metadata"]
        return not (spec.get("nodeName") or spec.get("schedulingGates") or metadata.get("deletionTimestamp"))

    def _start_pod(self, pod: Pod) -> PodLifecycle:
        behaviour: Behaviour
        try:
            behaviour = self._choose(pod)
            if not isinstance(behaviour, Pending | Waiting | Run):
                raise TestbedError(f"The behaviour of a pod is {behaviour!r}: choose Pending, Waiting or Run.")
        except Exception as error:
            self._fail(error)
            behaviour = Run(seconds=0, code=1, message=f"the behaviour of this pod could not be chosen: {error!r}")
        lifecycle = PodLifecycle(self._api, pod, behaviour, self.name)
        lifecycle.task.add_done_callback(self._check)
        return lifecycle
