"""A testbed: control plane, training-operator, MinIO and, if asked for, the trainer and a node, until its ``with`` ends.

    with Testbed.start(folder) as bed:
        bed.kubectl("get", "namespaces")

Everything listens on 127.0.0.1, or with a node on addresses that exist on this machine only, writes to the folder, and
ends with the process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rstar_testbed.addresses import LOOPBACK, NODE
from rstar_testbed.binaries import Binaries
from rstar_testbed.control_plane import ControlPlane
from rstar_testbed.errors import CommandError, TestbedError
from rstar_testbed.node.namespaces import Namespaces
from rstar_testbed.node.node import NODE_PROGRAMS, Node
from rstar_testbed.node.packages import check_packages
from rstar_testbed.object_store import Minio
from rstar_testbed.processes import Component
from rstar_testbed.trainer import start_trainer
from rstar_testbed.training_operator import start_training_operator


class Testbed:
    """A running testbed, created by :meth:`start`."""

    __test__ = False  # The name is the package's, not a test's.

    def __init__(self, folder: Path, binaries: Mapping[str, Path], plane: ControlPlane) -> None:
        self.folder = folder
        self.binaries = binaries
        self.minio: Minio | None = None
        self.node: Node | None = None
        self._plane = plane
        self._trainers: list[Component] = []

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        training_operator: bool = True,
        trainer: bool = False,
        minio: bool = True,
        node: bool = False,
    ) -> Self:
        """Start the components and return when all are ready; missing programs are built first.

        ``trainer``: run what TrainJobs need, the trainer and the JobSet controller. ``folder`` must be new or empty. With ``node`` pods run for real, in containers (needs root). Raises :class:`TestbedError` with the last lines of the component that failed.
        """
        folder = folder.absolute()
        if folder.exists() and any(folder.iterdir()):
            raise TestbedError(
                f"{folder} is not empty: a testbed needs a folder of its own; remove it or name another."
            )
        if node:
            check_packages()
        folder.mkdir(parents=True, exist_ok=True)
        binaries = Binaries()
        needed = [
            "kube-apiserver",
            *(["minio"] if minio else []),
            *(["training-operator"] if training_operator else []),
            *(["trainer", "jobset"] if trainer else []),
            *(NODE_PROGRAMS if node else []),
        ]
        for name in needed:
            binaries[name]
        addresses = NODE if node else LOOPBACK
        bed = cls(folder, binaries, ControlPlane(folder, binaries, addresses))
        try:
            if node:
                bed.node = Node(bed._plane, Namespaces(folder, addresses), binaries)
            if minio:
                bed.minio = Minio(folder, binaries["minio"], addresses.machine)
            bed._plane.start()
            if bed.node:
                bed.node.start(lambda manifests: bed.kubectl("apply", "--filename=-", input=manifests))
            if training_operator:
                bed._trainers.append(start_training_operator(bed._plane, binaries))
            if trainer:
                bed.start_trainer()
            if bed.minio:
                bed.minio.wait()
            if bed.node:
                bed.node.wait()
        except BaseException:
            bed.stop()
            raise
        return bed

    def start_trainer(self) -> None:
        """Start what TrainJobs need, the trainer and the JobSet controller, unless they run; return when they work."""
        if all(component.name != "trainer" for component in self._trainers):
            self._trainers += start_trainer(self._plane, self.binaries)

    def stop(self) -> None:
        """Stop every component. The folder stays, with its logs."""
        for component in self._trainers:
            component.stop()
        if self.node:
            self.node.stop()
        self._plane.stop()
        if self.minio:
            self.minio.stop()

    def __enter__(self) -> Self:
        """Return the testbed, which runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every component."""
        self.stop()

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return self._plane.server

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of a cluster admin."""
        return self._plane.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The log of all requests to the API server."""
        return self._plane.audit_log

    def user_kubeconfig(self, name: str, groups: tuple[str, ...] = ()) -> Path:
        """Write the kubeconfig of a user with a client certificate, who is ``name`` in ``groups`` for RBAC."""
        return self._plane.write_user(self.folder / f"users/{name}.kubeconfig", name, groups)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write the kubeconfig of an existing ServiceAccount, with a token from the API server."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self._plane.request("POST", path, {"spec": {"expirationSeconds": 24 * 3600}})
        if answer is None:
            raise TestbedError(f"There is no ServiceAccount {name} in namespace {namespace}: create it first.")
        target = self.folder / f"users/{namespace}-{name}.kubeconfig"
        return self._plane.write_token(target, name, answer["status"]["token"], namespace)

    def kubectl(
        self, *arguments: str, input: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> str:
        """Run kubectl, as cluster admin unless ``kubeconfig`` is another user's, and return its output.

        Raises :class:`CommandError` if it fails; with ``check=False`` the error is returned after the output.
        """
        return self._run("kubectl", arguments, input, check, kubeconfig)

    def helm(
        self,
        *arguments: str,
        input: str | None = None,
        check: bool = True,
        kubeconfig: Path | None = None,
        program: str = "helm",
    ) -> str:
        """Run helm, in the same way as :meth:`kubectl`; ``program`` is ``helm`` (Helm 3) or ``helm4``."""
        return self._run(program, arguments, input, check, kubeconfig)

    def restart_apiserver(self, while_down: Callable[[], None] = lambda: None) -> None:
        """Kill the API server, call ``while_down``, start the API server again with the same data and address."""
        self._plane.restart_apiserver(while_down)

    def requests(self, *, verbs: tuple[str, ...] = ()) -> Counter[tuple[str, str]]:
        """Count the API requests that were answered so far, by user name and the first word of the user agent."""
        counted: Counter[tuple[str, str]] = Counter()
        with self._plane.audit_log.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # Not written completely yet.
                event = json.loads(line)
                if event["stage"] == "ResponseComplete" and (not verbs or event["verb"] in verbs):
                    counted[event["user"]["username"], event.get("userAgent", "").split("/")[0]] += 1
        return counted

    def environment(self) -> dict[str, str]:
        """Return the environment variables that a shell needs to use this testbed."""
        found = {"KUBECONFIG": str(self.kubeconfig)}
        if self.minio:
            found |= self.minio.environment("s3://rstar/default")
        return found

    def _run(
        self, program: str, arguments: tuple[str, ...], input: str | None, check: bool, kubeconfig: Path | None
    ) -> str:
        home = self.folder / "home"
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
            "HOME": str(home),
            "KUBERC": "off",
        }
        command = [str(self.binaries[program]), *arguments]
        done = subprocess.run(
            command,
            input=input,
            capture_output=True,
            text=True,
            env=environment,
            stdin=None if input is not None else subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            raise CommandError(" ".join([program, *arguments]), done.returncode, done.stderr or done.stdout)
        return done.stdout if check else done.stdout + done.stderr
