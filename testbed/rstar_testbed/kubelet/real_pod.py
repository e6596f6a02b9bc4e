"""A pod whose containers are processes of this machine, each in a :mod:`sandbox` of its own.

The containers of a pod share its address and its volumes. Their output goes to one log, their termination message files to
the pod's status. A container needs a ``command``: there are no images.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rstar_testbed.binaries import cache_folder
from rstar_testbed.kubelet import sandbox as sandbox_program
from rstar_testbed.kubelet.behaviour import Pod
from rstar_testbed.kubelet.container import Objects, command_of, environment_of, referenced
from rstar_testbed.kubelet.hosts import Services, hosts_text, rewrite
from rstar_testbed.kubelet.probes import follow
from rstar_testbed.kubelet.sandbox import CANNOT_START, Sandbox, program_folders
from rstar_testbed.kubelet.volumes import IssueToken, Mount, VolumeWriter, mounts_of
from rstar_testbed.kubelet.workload import Outcome, SetReady

_MESSAGE_BYTES: Final = 4096
_LOG_BYTES: Final = 2048
# Nobody listens there: a look-up of a name that is not in the hosts file fails at once and never leaves the machine.
_RESOLVER: Final = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class PodContext:
    """What the kubelet gives a real pod. ``log`` is the file for its output, ``fetch`` gets Secrets and ConfigMaps."""

    folder: Path
    log: Path
    api_host: str
    api_port: str
    fetch: Callable[[set[tuple[str, str]]], Awaitable[Objects]]
    issue_token: IssueToken


class RealPod:
    """Runs the containers of one pod."""

    def __init__(
        self, pod: Pod, address: str, environment: Mapping[str, str], context: PodContext, services: Services
    ) -> None:
        self._pod = pod
        self._address = address
        self._environment = environment
        self._context = context
        self._folder = context.folder
        self._hosts = self._folder / "hosts"
        self._objects: Objects = {}
        self._volumes: dict[str, Path] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._folder.mkdir(parents=True)
        self._hosts.write_text(hosts_text(pod, address, services))
        (self._folder / "resolv.conf").write_text(_RESOLVER)

    def update_hosts(self, services: Services) -> None:
        """Let the containers look up these Services from now on."""
        if self._hosts.exists():
            rewrite(self._hosts, hosts_text(self._pod, self._address, services))

    async def prepare(self) -> None:
        """Fetch the Secrets and ConfigMaps that the pod refers to, and write its volumes."""
        self._objects = await self._context.fetch(referenced(self._pod))
        for container in self._pod["spec"]["containers"]:
            command_of(container, environment_of(self._pod, container, self._objects, self._address))
        volumes = self._folder / "volumes"
        writer = VolumeWriter(self._pod, volumes, self._objects, self._address, self._context.issue_token)
        self._volumes = await writer.write()

    async def run(self, container: dict[str, Any], set_ready: SetReady) -> Outcome:
        """Run the container's command to its end."""
        name = container["name"]
        message = self._folder / f"{name}.message"
        message.write_bytes(b"")
        message.chmod(0o666)
        process = await self._start(container, message)
        self._running[name] = process
        probing = asyncio.create_task(follow(container, self._address, set_ready))
        try:
            code = await process.wait()
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            self._kill(process)
            del self._running[name]
        reason = "StartError" if code == CANNOT_START else ""
        return Outcome(code, reason, self._message(container, message, code))

    async def terminate(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds."""
        running = list(self._running.values())
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if running:
            await asyncio.wait([asyncio.create_task(process.wait()) for process in running], timeout=grace)
        for process in running:
            self._kill(process)

    async def close(self) -> None:
        """Kill the containers and remove the pod's folder. Their mounts are in namespaces of their own: nothing is mounted here."""
        running = list(self._running.values())
        for process in running:
            self._kill(process)
        await asyncio.gather(*(process.wait() for process in running))
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _start(self, container: dict[str, Any], message: Path) -> asyncio.subprocess.Process:
        name = container["name"]
        environment = self._container_environment(container)
        scratch = self._folder / f"{name}.scratch"
        scratch.mkdir(exist_ok=True)
        mounts = [
            Mount(str(self._hosts), "/etc/hosts"),
            Mount(str(self._folder / "resolv.conf"), "/etc/resolv.conf"),
            *mounts_of(container, self._volumes, environment),
            Mount(str(message), container.get("terminationMessagePath") or "/dev/termination-log"),
        ]
        sandbox = Sandbox(
            command=command_of(container, environment),
            environment=environment,
            directory=container.get("workingDir") or "/",
            hostname=self._pod["spec"].get("hostname") or self._pod["metadata"]["name"],
            scratch=str(scratch),
            mounts=[(mount.source, mount.target, mount.read_only) for mount in mounts],
            programs=program_folders([cache_folder()]),
            read_only_root=bool((container.get("securityContext") or {}).get("readOnlyRootFilesystem")),
        )
        file = self._folder / f"{name}.json"
        sandbox.write(file)
        with self._context.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                sandbox_program.__file__,
                str(file),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _container_environment(self, container: dict[str, Any]) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{_PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "HOSTNAME": self._pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": self._context.api_host,
            "KUBERNETES_SERVICE_PORT": self._context.api_port,
            "KUBERNETES_SERVICE_PORT_HTTPS": self._context.api_port,
            **environment_of(self._pod, container, self._objects, self._address),
            **self._environment,
        }

    def _message(self, container: dict[str, Any], file: Path, code: int) -> str:
        message = file.read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
        falls_back = container.get("terminationMessagePolicy") == "FallbackToLogsOnError" or code == CANNOT_START
        if not message and code and falls_back:
            return self._context.log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
        return message

    @staticmethod
    def _kill(process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
