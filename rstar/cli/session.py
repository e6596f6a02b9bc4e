"""The models and the executor of one command, connected: what ``rstar solve`` and ``rstar evaluate`` share.

It refuses combinations that cannot work, before anything starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from rstar.cli.errors import FAILED, INTERRUPTED, CommandError

if TYPE_CHECKING:
    from rstar.interfaces import Executor, Policy, PreferenceModel
    from rstar.local.session import Addresses, Wanted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Models:
    """Connected clients."""

    policy: Policy
    executor: Executor
    ppm: PreferenceModel | None


def wanted_services(
    policy_model: str | None,
    ppm_model: str | None,
    policy: list[str] | None,
    ppm: list[str] | None,
    executor: list[str] | None,
    prompt: str,
) -> Wanted:
    """Check the options that name models."""
    from rstar.local.session import Wanted

    if (policy_model is None) == (not policy):
        raise CommandError("give either --policy-model FOLDER or --policy HOST:PORT")
    if ppm_model is not None and ppm:
        raise CommandError("give --ppm-model FOLDER or --ppm HOST:PORT, not both")
    if prompt not in {"trained", "bootstrap"}:
        raise CommandError(f"--prompt is trained or bootstrap, not {prompt!r}")
    for option, uri in (("--policy-model", policy_model), ("--ppm-model", ppm_model)):
        if uri and not uri.startswith(("hf:", "store:")) and not Path(uri, "config.json").is_file():
            raise CommandError(f"{option} {uri}: no model folder, it has no config.json")
    style: Literal["trained", "bootstrap"] = "bootstrap" if prompt == "bootstrap" else "trained"
    return Wanted(policy_model, ppm_model, policy or (), ppm or (), executor or (), style)


def with_models(wanted: Wanted, store: str, work: Callable[[Models], Awaitable[T]]) -> T:
    """Start and connect what is ``wanted``, do ``work``, end everything. Raises ``CommandError`` in its stead."""
    from rstar.local.session import ServiceFailedError, served
    from rstar.rpc.errors import CallFailed

    location = store if "://" in store else str(Path(store).absolute())
    try:
        with served(wanted, location) as addresses:
            return asyncio.run(_connected(addresses, work))
    except (ServiceFailedError, CallFailed) as error:
        raise CommandError(str(error), FAILED) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        raise CommandError("interrupted", INTERRUPTED) from None


async def _connected(addresses: Addresses, work: Callable[[Models], Awaitable[T]]) -> T:
    from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient

    async with AsyncExitStack() as stack:
        policy = await stack.enter_async_context(PolicyClient(addresses.policy))
        executor = await stack.enter_async_context(ExecutorClient(addresses.executor))
        ppm = await stack.enter_async_context(PreferenceModelClient(addresses.ppm)) if addresses.ppm else None
        return await work(Models(policy, executor, ppm))
