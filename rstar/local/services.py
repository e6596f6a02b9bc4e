"""The services that run on this machine: started, watched, restarted on the same ports, drained.

A service is identified by its ``ServiceRef``. It keeps running across stages and rounds while the plan needs that ref.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rstar.local.children import Child
from rstar.local.commands import Commands
from rstar.local.devices import gpu_environment, least_used
from rstar.local.log_files import service_log
from rstar.local.log_tail import error_line
from rstar.rounds.observed import Service, ServiceKind, ServiceRef, ServiceState

GRACE_SECONDS: Final = 10.0
"""A service is stopped when its callers have ended or are ending, so no caller needs its open calls."""


@dataclass(slots=True)
class _Running:
    ref: ServiceRef
    number: int
    children: list[Child]
    ready_files: list[Path]
    since: datetime
    ports: list[int]
    failures: int = 0
    state: ServiceState = "starting"
    exit_code: int | None = None
    reason: str = ""
    addresses: list[str] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)


class Services:
    """All services of one driver. Logs and ready files are in ``folder``.

    Each replica of a model service gets ``gpus`` of its own, as many as its ``tensorParallel``; replicas share them when
    there are more replicas than GPUs.
    """

    def __init__(self, commands: Commands, folder: Path, gpus: Sequence[str] = ()) -> None:
        self._commands = commands
        self._folder = folder
        self._gpus = gpus
        self._running: dict[ServiceRef, _Running] = {}
        self._started = 0

    def start(self, ref: ServiceRef) -> None:
        """Start every replica of ``ref``; after a failure on the same ports, because its clients know them."""
        before = self._running.get(ref)
        self._started += 1
        running = _Running(
            ref=ref,
            number=self._started,
            children=[],
            ready_files=[],
            since=datetime.now(UTC),
            ports=before.ports if before else [0] * ref.replicas,
            failures=before.failures if before else 0,
        )
        upstream: dict[ServiceKind, list[str]] = {used.kind: self.addresses(used) for used in ref.upstream}
        taken = [gpu for other in self._running.values() if other is not before for gpu in other.gpus]
        for replica, port in enumerate(running.ports):
            name = f"{ref.kind}-{running.number}-{replica}"
            ready_file = self._folder / f"{name}.ready"
            ready_file.parent.mkdir(parents=True, exist_ok=True)
            ready_file.unlink(missing_ok=True)
            launch = self._commands.service(ref, port, ready_file, upstream)
            gpus = least_used(self._gpus, taken, ref.serving.tensor_parallel) if ref.model is not None else ()
            taken += gpus
            running.gpus += gpus
            # A service has no state to save, and the next driver needs its memory at once: SIGKILL.
            child = Child(
                launch.command,
                service_log(self._folder, ref.kind, running.number, replica),
                {**launch.environment, **gpu_environment(gpus)},
                grace=GRACE_SECONDS,
                parent_death_signal=signal.SIGKILL,
            )
            running.children.append(child)
            running.ready_files.append(ready_file)
        self._running[ref] = running

    def stop(self, ref: ServiceRef) -> None:
        """Drain ``ref``; ``observe`` returns it until all its processes have ended."""
        running = self._running[ref]
        running.state = "stopping"
        for child in running.children:
            child.terminate()

    def kill(self) -> None:
        """Kill everything now."""
        for running in self._running.values():
            for child in running.children:
                child.kill()
                child.poll()

    def all_ended(self) -> bool:
        """Return whether no process runs any more."""
        return all(child.poll() is not None for running in self._running.values() for child in running.children)

    def addresses(self, ref: ServiceRef) -> list[str]:
        """Return ``host:port`` of every replica of a ready service."""
        return list(self._running[ref].addresses)

    def observe(self) -> tuple[Service, ...]:
        """Poll every process and return the services as the planner sees them."""
        for ref, running in list(self._running.items()):
            self._update(running)
            if running.state == "stopping" and all(child.poll() is not None for child in running.children):
                del self._running[ref]
        return tuple(
            Service(r.ref, r.state, r.since, r.failures, r.exit_code, r.reason) for r in self._running.values()
        )

    def _update(self, running: _Running) -> None:
        if running.state in {"stopping", "failed"}:
            return
        ended = [(child, code) for child in running.children if (code := child.poll()) is not None]
        if ended:
            child, code = ended[0]
            running.state, running.since = "failed", datetime.now(UTC)
            running.failures += 1
            running.exit_code = code
            running.reason = f"exit code {code}: {error_line(child.log)} (log: {child.log})"
            for other in running.children:
                other.kill()
                other.poll()
        elif running.state == "starting" and all(path.exists() for path in running.ready_files):
            running.addresses = [path.read_text().strip() for path in running.ready_files]
            running.ports = [int(address.rpartition(":")[2]) for address in running.addresses]
            running.state, running.failures = "ready", 0
