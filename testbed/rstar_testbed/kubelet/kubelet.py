"""The test kubelet: watches pods, gives each its life, and lets real ones look up services.

One thread with one event loop, one watch of pods and, once a pod runs for real, one of EndpointSlices; no polling. It may
share a cluster with others of its kind if each has a namespace of its own.
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
from rstar_testbed.kubelet.container import Objects
from rstar_testbed.kubelet.hosts import Services, services_of
from rstar_testbed.kubelet.logs import LogServer
from rstar_testbed.kubelet.node import keep_alive, register, unregister
from rstar_testbed.kubelet.plays import Play, Player, Pod, Real, Run
from rstar_testbed.kubelet.pods import PodLife, path_of
from rstar_testbed.kubelet.real import RealPod, Surroundings
from rstar_testbed.kubelet.workload import Outcome, Scripted, Workload

_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


class Kubelet:
    """A node that plays what ``player`` says, in one namespace or in all. A context manager.

    Real pods' output is in ``folder/pods/NAMESPACE_NAME.log``; a folder that is not given is removed at the end. Leaving it kills what runs, takes the node and its pods
    away and raises whatever went wrong inside.
    """

    def __init__(
        self, kubeconfig: Path, player: Player, *, namespace: str | None = None, folder: Path | None = None
    ) -> None:
        self._scratch = None if folder else tempfile.TemporaryDirectory(prefix="rstar-kubelet-")
        self.folder = folder or Path(self._scratch.name if self._scratch else "")
        self.name = "testbed-" + "".join(random.choices(string.ascii_lowercase, k=6))
        self._kubeconfig = kubeconfig
        self._player = player
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._lives: dict[str, PodLife] = {}
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
        """Start; return when the node is Ready and pods are watched."""
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
        """Stop; raise what went wrong inside, unless something is being raised already."""
        if self._loop and self._stop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._scratch:
            self._scratch.cleanup()
        if self._errors and error is None:
            raise self._errors[0]

    def end(self, namespace: str, pod: str, *, code: int = 0, message: str = "", reason: str = "") -> None:
        """End the containers of a scripted pod now, whatever their script says."""
        assert self._loop
        asyncio.run_coroutine_threadsafe(self._end(namespace, pod, Outcome(code, reason, message)), self._loop).result()

    def log(self, namespace: str, pod: str) -> str:
        """Read what a real pod has printed so far."""
        path = self._log_path(namespace, pod)
        return path.read_text(errors="replace") if path.exists() else ""

    async def _end(self, namespace: str, pod: str, outcome: Outcome) -> None:
        life = self._find(namespace, pod)
        if life is None or not isinstance(life.workload, Scripted):
            raise TestbedError(f"Pod {pod} in namespace {namespace} plays no script here, or not yet.")
        life.workload.end(outcome)

    def _find(self, namespace: str, pod: str) -> PodLife | None:
        wanted = (namespace, pod)
        lives = self._lives.values()
        return next(
            (each for each in lives if (each.pod["metadata"]["namespace"], each.pod["metadata"]["name"]) == wanted),
            None,
        )

    def _runs(self, namespace: str, pod: str) -> bool:
        life = self._find(namespace, pod)
        return life is not None and not life.task.done()

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
        lives = list(self._lives.values())
        await asyncio.gather(*(life.abandon() for life in lives))
        self._network.close()
        for life in lives:
            with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError):
                await self._api.call("DELETE", path_of(life.pod), {"gracePeriodSeconds": 0})
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
            life = self._lives.get(uid)
            if kind == "DELETED":
                if life:
                    del self._lives[uid]
                    self._start(self._bury(uid, life))
            elif life:
                life.see(pod)
            elif self._is_ours(pod):
                self._lives[uid] = self._live(pod)

    def _is_ours(self, pod: Pod) -> bool:
        spec, metadata = pod["spec"], pod["metadata"]
        return not (spec.get("nodeName") or spec.get("schedulingGates") or metadata.get("deletionTimestamp"))

    def _live(self, pod: Pod) -> PodLife:
        play: Play
        try:
            play = self._player(pod)
        except Exception as error:
            self._fail(error)
            play = Run(seconds=0, code=1, message=f"the player failed: {error!r}")
        life = PodLife(self._api, pod, play, self.name, lambda: self._open(pod, play))
        life.task.add_done_callback(self._check)
        return life

    async def _bury(self, uid: str, life: PodLife) -> None:
        await life.abandon()
        self._real.pop(uid, None)

    def _open(self, pod: Pod, play: Play) -> tuple[Workload, str]:
        address = self._network.take()
        if isinstance(play, Run):
            return Scripted(play), address
        if not isinstance(play, Real):
            raise TestbedError(f"A player answered {play!r}: answer Pending, Waiting, Run or Real.")
        if not self._network.routed:
            raise TestbedError("Real pods need addresses and namespaces of their own: run as root.")
        self._network.put_on_interface(address)
        if self._slices is None:
            self._slices = self._start(self._watch_slices())
        metadata = pod["metadata"]
        server = urlsplit(self._api.server)
        around = Surroundings(
            folder=self.folder / "running" / metadata["uid"],
            log=self._log_path(metadata["namespace"], metadata["name"]),
            api_host=server.hostname or "",
            api_port=str(server.port),
            fetch=lambda wanted: self._fetch(metadata["namespace"], wanted),
            issue_token=lambda audience, seconds: self._issue_token(pod, audience, seconds),
        )
        workload = RealPod(pod, address, play.environment, around, self._services)
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
                    pod.see(services)

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
