"""Services for one command (``rstar solve``, ``rstar evaluate``): started here for models given as checkpoints.

They end with the command. The module refuses to search.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rstar.local.children import POLL_SECONDS
from rstar.local.commands import PlatformCommands
from rstar.local.services import Services
from rstar.prompt import PromptStyle
from rstar.rounds.observed import ModelRef, ServiceKind, ServiceRef


class ServiceFailedError(RuntimeError):
    """A service ended before it was ready; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services are. No ``ppm``: there is none."""

    policy: Sequence[str]
    executor: Sequence[str]
    ppm: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to serve: a checkpoint's URI, or the addresses of servers that run already. Both empty: an executor is started."""

    policy_model: str | None = None
    ppm_model: str | None = None
    policy: Sequence[str] = ()
    ppm: Sequence[str] = ()
    executor: Sequence[str] = ()
    prompt: PromptStyle = "trained"


@contextmanager
def served(wanted: Wanted, store: str) -> Iterator[Addresses]:
    """Start what does not run yet and yield all addresses. Raises ``ServiceFailedError``."""
    refs = {}
    if wanted.policy_model is not None:
        refs[ServiceKind.POLICY] = ServiceRef(ServiceKind.POLICY, ModelRef(wanted.policy_model), wanted.prompt)
    if wanted.ppm_model is not None:
        refs[ServiceKind.PPM] = ServiceRef(ServiceKind.PPM, ModelRef(wanted.ppm_model))
    if not wanted.executor:
        refs[ServiceKind.EXECUTOR] = ServiceRef(ServiceKind.EXECUTOR)
    with tempfile.TemporaryDirectory(prefix="rstar-") as folder:
        services = Services(PlatformCommands(store), Path(folder))
        try:
            for ref in refs.values():
                services.start(ref)
            _wait(services)
            own = {kind: services.addresses(ref) for kind, ref in refs.items()}
            yield Addresses(
                policy=own.get(ServiceKind.POLICY, list(wanted.policy)),
                executor=own.get(ServiceKind.EXECUTOR, list(wanted.executor)),
                ppm=own.get(ServiceKind.PPM, list(wanted.ppm)),
            )
        finally:
            # Nothing is under way any more, so there is nothing to drain.
            services.kill()


def _wait(services: Services) -> None:
    while True:
        seen = services.observe()
        failed = next((service for service in seen if service.state == "failed"), None)
        if failed is not None:
            raise ServiceFailedError(f"the {failed.ref.kind} service did not start: {failed.reason}")
        if all(service.state == "ready" for service in seen):
            return
        time.sleep(POLL_SECONDS)
