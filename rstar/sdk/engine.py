"""The searches of one ``Solver``, in an event loop of their own: connections, verifiers, errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rstar.sdk.errors import ServicesError, SolverError, SolveTimeoutError
from rstar.sdk.loop_thread import LoopThread
from rstar.sdk.models import READY_SECONDS
from rstar.sdk.requests import SolveRequest
from rstar.sdk.solution import Solution, solution_of

if TYPE_CHECKING:
    from rstar.local.session import ServiceOptions
    from rstar.record import Progress
    from rstar.rpc.search_client import SearchClient
    from rstar.sdk.models import ModelClients, Searched
    from rstar.verify.guard import Guarded

CLOSED: Final = "this Solver is closed: make another one"


@dataclass(frozen=True, slots=True)
class Place:
    """Where searches run: in the coordinators at ``search``, or here with the ``services``, of which some may be started.

    ``store``: for ``store:`` URIs; ``gpus``: those for models, None: all. ``ready_seconds``: the longest wait for a server
    that should run already.
    """

    search: tuple[str, ...] = ()
    services: ServiceOptions | None = None
    store: str = ""
    gpus: tuple[str, ...] | None = None
    ready_seconds: float = READY_SECONDS

    @property
    def guided(self) -> bool:
        """Whether there is a PPM, as far as is known: a coordinator tells only when it is asked."""
        return bool(self.search) or (self.services is not None and bool(self.services.ppm_model or self.services.ppm))


class Engine:
    """Opens ``place`` at the first use; ``close`` ends the searches and the started services. All methods are thread-safe."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._stack = AsyncExitStack()
        self._thread: LoopThread | None = None
        self._opened: Future[ModelClients | SearchClient] | None = None
        self._judges: dict[str, Guarded] = {}
        self._closed = False

    def open(self) -> Future[ModelClients | SearchClient]:
        """Start the services and connect, once; a later call returns the same future."""
        with self._lock:
            thread = self._running_thread()
            if self._opened is None:
                self._opened = thread.submit(self._open())
            return self._opened

    def solve(self, request: SolveRequest) -> Future[Solution]:
        """Start a search; cancelling the future ends it. Its errors are ``SolverError``."""
        opened = self.open()
        with self._lock:
            return self._running_thread().submit(self._solve(request, opened))

    def close(self) -> None:
        """End everything; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread is not None:
            self._thread.stop(self._close())

    def _running_thread(self) -> LoopThread:
        if self._closed:
            raise SolverError(CLOSED)
        if self._thread is None:
            self._thread = LoopThread("rstar-solver")
        return self._thread

    async def _open(self) -> ModelClients | SearchClient:
        from rstar.local.session import running_services
        from rstar.rpc.search_client import SearchClient
        from rstar.sdk.models import connected

        place, stack = self._place, self._stack
        with _solver_errors():
            if place.services is None:
                client = SearchClient(place.search, ready_seconds=place.ready_seconds)
                return await stack.enter_async_context(client)
            services = running_services(place.services, place.store, place.gpus)
            found = await stack.enter_async_context(services)
            return await stack.enter_async_context(connected(found, ready_seconds=place.ready_seconds))

    async def _close(self) -> None:
        for judge in self._judges.values():
            await judge.close()
        await self._stack.aclose()

    async def _solve(self, request: SolveRequest, opened: Future[ModelClients | SearchClient]) -> Solution:
        clock = asyncio.timeout(request.timeout)
        try:
            async with clock:
                # Shielded: the end of one search must not end the start of the services for the others.
                place = await asyncio.shield(asyncio.wrap_future(opened))
                with _solver_errors():
                    return await self._searched(request, place)
        except TimeoutError:
            if not clock.expired():
                raise
            raise SolveTimeoutError(f"the search was not finished within {request.timeout:g} s") from None

    async def _searched(self, request: SolveRequest, place: ModelClients | SearchClient) -> Solution:
        from rstar.rpc.search_client import SearchClient
        from rstar.sdk.models import search_here, search_there, verdict_on

        problem, config, name, seed = request.problem, request.config, request.verifier, request.seed
        judge = self._judge(name)
        watcher = None if request.progress is None else _Watcher(request)
        found: Searched
        try:
            if isinstance(place, SearchClient):
                found = await search_there(problem, config, place, verifier=name, seed=seed, on_progress=watcher)
            else:
                found = await search_here(
                    problem, config, place, verifier=name, judge=judge, seed=seed, on_progress=watcher
                )
        except Exception:
            if watcher is not None and watcher.error is not None:
                raise watcher.error from None
            raise
        record, scores = found
        return solution_of(problem, record, scores, await verdict_on(problem, record, judge), seed)

    def _judge(self, name: str) -> Guarded:
        from rstar.verify import verifier

        if name not in self._judges:
            self._judges[name] = verifier(name)
        return self._judges[name]


class _Watcher:
    """Calls the user's function; its error ends the search, and is kept as it is."""

    def __init__(self, request: SolveRequest) -> None:
        self._progress = request.progress
        self.error: Exception | None = None

    def __call__(self, progress: Progress) -> None:
        assert self._progress is not None
        try:
            self._progress(progress)
        except Exception as error:
            self.error = error
            raise


@contextmanager
def _solver_errors() -> Iterator[None]:
    """Turn the errors of services and searches into ``SolverError``."""
    from rstar.interfaces import RoleUnavailable
    from rstar.local.session import ServiceFailedError
    from rstar.rpc.errors import CallFailed
    from rstar.rpc.tls import CertificateError
    from rstar.search.solve import SearchFailed

    try:
        yield
    except SearchFailed as error:
        kind = ServicesError if isinstance(error.__cause__, RoleUnavailable) else SolverError
        raise kind(str(error), error.record) from error.__cause__
    except (ServiceFailedError, CertificateError, RoleUnavailable) as error:
        raise ServicesError(str(error)) from error
    except CallFailed as error:
        raise SolverError(str(error)) from error
