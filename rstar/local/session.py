"""Services of one command (``rstar solve``, ``rstar evaluate``) or one ``rstar.Solver``, for models that are given as checkpoints.

They end with the context, or with this process, however it ends. The kernel also ends them when the thread that started
them ends (``die_with_parent``): a context must be entered and left in one thread.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rstar.local.children import POLL_SECONDS
from rstar.local.commands import PlatformCommands
from rstar.local.devices import visible_gpus
from rstar.local.services import Services
from rstar.prompt import PromptStyle
from rstar.rounds.observed import ModelRef, ServiceKind, ServiceRef

REAP_SECONDS: Final = 5.0
"""The longest wait for killed processes: one may be held up in the kernel, by a GPU for instance."""


class ServiceFailedError(RuntimeError):
    """A service ended before it was ready; the message has the error from its log."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the services; ``ppm`` is empty without a PPM."""

    policy: Sequence[str]
    executor: Sequence[str]
    ppm: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The services of a command: checkpoints to serve (URIs), or addresses of servers that run already.

    An executor is started when none is given.
    """

    policy_model: str | None = None
    ppm_model: str | None = None
    policy: Sequence[str] = ()
    ppm: Sequence[str] = ()
    executor: Sequence[str] = ()
    prompt: PromptStyle = "trained"


@asynccontextmanager
async def running_services(
    options: ServiceOptions, store: str, gpus: Sequence[str] | None = None
) -> AsyncIterator[Addresses]:
    """Start the services that do not run yet and yield all addresses; ``gpus``: those that models may use, None: all.

    Raises ``ServiceFailedError``.
    """
    refs = {}
    if options.policy_model is not None:
        refs[ServiceKind.POLICY] = ServiceRef(ServiceKind.POLICY, ModelRef(options.policy_model), options.prompt)
    if options.ppm_model is not None:
        refs[ServiceKind.PPM] = ServiceRef(ServiceKind.PPM, ModelRef(options.ppm_model))
    if not options.executor:
        refs[ServiceKind.EXECUTOR] = ServiceRef(ServiceKind.EXECUTOR)
    with tempfile.TemporaryDirectory(prefix="rstar-") as folder:
        services = Services(PlatformCommands(store), Path(folder), visible_gpus() if gpus is None else gpus)
        try:
            for ref in refs.values():
                services.start(ref)
            await _ready(services)
            own = {kind: services.addresses(ref) for kind, ref in refs.items()}
            yield Addresses(
                policy=own.get(ServiceKind.POLICY, list(options.policy)),
                executor=own.get(ServiceKind.EXECUTOR, list(options.executor)),
                ppm=own.get(ServiceKind.PPM, list(options.ppm)),
            )
        finally:
            # No call is open any more, so there is nothing to drain.
            services.kill()
            _reap(services)


async def _ready(services: Services) -> None:
    while True:
        observed = services.observe()
        failed = next((service for service in observed if service.state == "failed"), None)
        if failed is not None:
            raise ServiceFailedError(f"the {failed.ref.kind} service did not start: {failed.reason}")
        if all(service.state == "ready" for service in observed):
            return
        await asyncio.sleep(POLL_SECONDS)


def _reap(services: Services) -> None:
    """Wait until the killed processes have ended, so that a long-living caller keeps no zombies."""
    until = time.monotonic() + REAP_SECONDS
    while not services.all_ended() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
