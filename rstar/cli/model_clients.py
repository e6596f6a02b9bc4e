"""gRPC clients of the policy, the executor and the PPM for ``rstar solve`` and ``rstar evaluate``.

Options that contradict each other are an error before any service starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from rstar.cli.errors import FAILED, INTERRUPTED, CommandError
from rstar.locations.stores import absolute_store
from rstar.prompt import PromptStyle

if TYPE_CHECKING:
    from rstar.local.session import ServiceOptions
    from rstar.sdk.models import ModelClients

T = TypeVar("T")


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


def run_with_models(
    requested: ServiceOptions, store: str, call_seconds: float, work: Callable[[ModelClients], Awaitable[T]]
) -> T:
    """Start and connect the ``requested`` services, run ``work`` and end the services. Raises ``CommandError``.

    ``call_seconds``: how long a model may take for one call.
    """
    from rstar.local.session import running_services
    from rstar.sdk.models import connected

    async def run() -> T:
        async with (
            running_services(requested, absolute_store(store)) as addresses,
            connected(addresses, call_seconds=call_seconds) as models,
        ):
            return await work(models)

    with _command_errors():
        return asyncio.run(run())


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
