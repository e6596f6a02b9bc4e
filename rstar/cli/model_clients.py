"""gRPC clients of the policy, the executor and the PPM for ``rstar solve`` and ``rstar evaluate``.

Options that contradict each other are an error before any service starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from rstar.cli.errors import FAILED, INTERRUPTED, CommandError
from rstar.cli.options import absolute_store
from rstar.prompt import PromptStyle

if TYPE_CHECKING:
    from rstar.interfaces import Executor, Policy, TrajectoryScorer
    from rstar.local.session import Addresses, ServiceOptions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelClients:
    """Connected clients; ``ppm`` is None when the command uses no PPM."""

    policy: Policy
    executor: Executor
    ppm: TrajectoryScorer | None


def requested_services(
    policy_model: str | None,
    ppm_model: str | None,
    policy: list[str] | None,
    ppm: list[str] | None,
    executor: list[str] | None,
    prompt: str,
) -> ServiceOptions:
    """Return the services that the options name. Raises ``CommandError`` when they cannot work together."""
    from rstar.local.session import ServiceOptions

    if (policy_model is None) == (not policy):
        raise CommandError("give either --policy-model FOLDER or --policy HOST:PORT")
    if ppm_model is not None and ppm:
        raise CommandError("give --ppm-model FOLDER or --ppm HOST:PORT, not both")
    if prompt not in get_args(PromptStyle):
        raise CommandError(f"--prompt is {', '.join(get_args(PromptStyle))}, not {prompt!r}")
    for option, uri in (("--policy-model", policy_model), ("--ppm-model", ppm_model)):
        if uri and not uri.startswith(("hf:", "store:")) and not Path(uri, "config.json").is_file():
            raise CommandError(f"{option} {uri}: not a model folder: it has no config.json")
    style = cast(PromptStyle, prompt)
    return ServiceOptions(policy_model, ppm_model, policy or (), ppm or (), executor or (), style)


def run_with_models(requested: ServiceOptions, store: str, work: Callable[[ModelClients], Awaitable[T]]) -> T:
    """Start and connect the ``requested`` services, run ``work`` and end the services. Raises ``CommandError``."""
    from rstar.local.session import running_services

    with _command_errors(), running_services(requested, absolute_store(store)) as addresses:
        return asyncio.run(_run_connected(addresses, work))


def run_calls(work: Coroutine[None, None, T]) -> T:
    """Run ``work``, which calls services that run already. Raises ``CommandError``."""
    with _command_errors():
        return asyncio.run(work)


@contextmanager
def _command_errors() -> Iterator[None]:
    from rstar.local.session import ServiceFailedError
    from rstar.rpc import tracing
    from rstar.rpc.errors import CallFailed
    from rstar.rpc.tls import CertificateError
    from rstar.search.solve import SearchFailed

    try:
        tracing.start("client")
        yield
    except (ServiceFailedError, CallFailed, CertificateError, SearchFailed) as error:
        raise CommandError(str(error), FAILED) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        raise CommandError("interrupted", INTERRUPTED) from None
    finally:
        tracing.stop()


async def _run_connected(addresses: Addresses, work: Callable[[ModelClients], Awaitable[T]]) -> T:
    from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient

    async with AsyncExitStack() as stack:
        policy = await stack.enter_async_context(PolicyClient(addresses.policy))
        executor = await stack.enter_async_context(ExecutorClient(addresses.executor))
        ppm = await stack.enter_async_context(PreferenceModelClient(addresses.ppm)) if addresses.ppm else None
        return await work(ModelClients(policy, executor, ppm))
