"""The test kubelet: watches pods, runs the lifecycle of each, and lets real pods look up Services.

One thread with one event loop, one watch of pods and, once there is a real pod, one of EndpointSlices; no polling. Several
kubelets may share a cluster if each has a namespace of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import string
import tempfile
import threading
import traceback
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from rstar_testbed.errors import TestbedError
from rstar_testbed.kubelet.addresses import PodNetwork
from rstar_testbed.kubelet.api import Api, ApiError
from rstar_testbed.kubelet.behaviour import Behaviour, ChooseBehaviour, Pod, Real, Run
from rstar_testbed.kubelet.container import Objects
from rstar_testbed.kubelet.hosts import Services, services_of
from rstar_testbed.kubelet.lifecycle import PodLifecycle, path_of
from rstar_testbed.kubelet.logs import LogServer
from rstar_testbed.kubelet.node import keep_alive, register, unregister
from rstar_testbed.kubelet.real_pod import PodContext, RealPod
from rstar_testbed.kubelet.workload import Outcome, Scripted, Workload

_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


class Kubelet:
    """A node for the pods of one namespace or of all. ``choose`` returns the behaviour of each pod. A context manager.

    Real pods' output is in ``folder/pods/NAMESPACE_NAME.log``; without ``folder`` it is a temporary one. Leaving the context
    kills what runs, deletes the node and its pods, and raises the first error that happened inside.
    """

    def __init__(
        self, kubeconfig: Path, choose: ChooseBehaviour, *, namespace: str | None = None, folder: Path | None = None
    ) -> None:
        self._scratch = None if folder else tempfile.TemporaryDirectory(prefix="rstar-kubelet-")
        self.folder = folder or Path(self._scratch.name if self._scratch else "")
        self.name = "testbed-" + "".join(random.choices(string.ascii_lowercase, k=6))
        self._kubeconfig = kubeconfig
        self._choose = choose
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._pods: dict[str, PodLifecycle] = {}
        self._real: dict[str, RealPod] = {}
        self._services: Services = {}
        self._errors: list[BaseException] = []
        self._network = PodNetwork()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name=self.name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._slices: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Start; return when the node is Ready and the watch of pods begins."""
        (self.folder / "pods").mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._network.open()
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
        if self._scratch:
            self._scratch.cleanup()
        if self._errors and error is None:
            raise self._errors[0]

    def end(self, namespace: str, pod: str, *, code: int = 0, message: str = "", reason: str = "") -> None:
        """End the containers of a scripted pod now, whatever its script says."""
        assert self._loop
        asyncio.run_coroutine_threadsafe(self._end(namespace, pod, Outcome(code, reason, message)), self._loop).result()

    def log(self, namespace: str, pod: str) -> str:
        """Return the output of a real pod so far."""
        path = self._log_path(namespace, pod)
        return path.read_text(errors="replace") if path.exists() else ""

    async def _end(self, namespace: str, pod: str, outcome: Outcome) -> None:
        found = self._find(namespace, pod)
        if found is None or not isinstance(found.workload, Scripted):
            raise TestbedError(f"Pod {pod} in namespace {namespace} follows no script of this kubelet, or not yet.")
        found.workload.end(outcome)

    def _find(self, namespace: str, pod: str) -> PodLifecycle | None:
        for found in self._pods.values():
            metadata = found.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod):
                return found
        return None

    def _runs(self, namespace: str, pod: str) -> bool:
        found = self._find(namespace, pod)
        return found is not None and not found.task.done()

    def _log_path(self, namespace: str, pod: str) -> Path:
        return self.folder / f"pods/{namespace}_{pod}.log"

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
            logs = LogServer(self._log_path, self._runs)
            await register(self._api, self.name, await logs.start())
            tasks = [self._start(keep_alive(self._api, self.name)), self._start(self._watch_pods())]
            self._ready.set()
            await self._stop.wait()
            for task in [*tasks, *([self._slices] if self._slices else [])]:
                task.cancel()
            await logs.stop()
            await self._leave()

    async def _leave(self) -> None:
        self._api.tries = 1
        lifecycles = list(self._pods.values())
        await asyncio.gather(*(each.stop() for each in lifecycles))
        self._network.close()
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
                    self._start(self._stop_pod(uid, lifecycle))
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
        except Exception as error:
            self._fail(error)
            behaviour = Run(seconds=0, code=1, message=f"the behaviour of this pod could not be chosen: {error!r}")
        lifecycle = PodLifecycle(self._api, pod, behaviour, self.name, lambda: self._open(pod, behaviour))
        lifecycle.task.add_done_callback(self._check)
        return lifecycle

    async def _stop_pod(self, uid: str, lifecycle: PodLifecycle) -> None:
        await lifecycle.stop()
        self._real.pop(uid, None)

    def _open(self, pod: Pod, behaviour: Behaviour) -> tuple[Workload, str]:
        """Return the pod's workload and its address."""
        address = self._network.take()
        if isinstance(behaviour, Run):
            return Scripted(behaviour), address
        if not isinstance(behaviour, Real):
            raise TestbedError(f"The behaviour of a pod is {behaviour!r}: choose Pending, Waiting, Run or Real.")
        if not self._network.routed:
            raise TestbedError("Real pods need addresses and namespaces of their own: run as root.")
        self._network.put_on_interface(address)
        if self._slices is None:
            self._slices = self._start(self._watch_slices())
        metadata = pod["metadata"]
        server = urlsplit(self._api.server)
        context = PodContext(
            folder=self.folder / "running" / metadata["uid"],
            log=self._log_path(metadata["namespace"], metadata["name"]),
            api_host=server.hostname or "",
            api_port=str(server.port),
            fetch=lambda wanted: self._fetch(metadata["namespace"], wanted),
            issue_token=lambda audience, seconds: self._issue_token(pod, audience, seconds),
        )
        workload = RealPod(pod, address, behaviour.environment, context, self._services)
        self._real[metadata["uid"]] = workload
        return workload, address

    async def _watch_slices(self) -> None:
        slices: dict[str, dict[str, Any]] = {}
        async for kind, each in self._api.watch(_SLICES):
            if kind == "DELETED":
                slices.pop(each["metadata"]["uid"], None)
            else:
                slices[each["metadata"]["uid"]] = each
            services = services_of(slices.values())
            if services != self._services:
                self._services = services
                for pod in self._real.values():
                    pod.update_hosts(services)

    async def _fetch(self, namespace: str, wanted: set[tuple[str, str]]) -> Objects:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for kind, name in sorted(wanted):
            try:
                found[kind, name] = await self._api.call(
                    "GET", f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}"
                )
            except ApiError as error:
                if error.status != 404:
                    raise
        return found

    async def _issue_token(self, pod: Pod, audience: str, seconds: int) -> str:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{pod['spec']['serviceAccountName']}/token"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"expirationSeconds": seconds, "boundObjectRef": bound, "audiences": [audience] if audience else []}
        answer = await self._api.call("POST", path, {"spec": spec})
        token: str = answer["status"]["token"]
        return token
