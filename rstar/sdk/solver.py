"""``rstar.Solver``: questions in, answers out, from a script or a notebook.

    with Solver.from_checkpoints("out/policy", "out/ppm") as solver:
        print(solver.solve("What is 7 * 8?").answer)

    with Solver.connect("localhost:50054") as solver:
        for outcome in solver.solve_many(questions):
            print(outcome.index, outcome.solution and outcome.solution.answer)

Every method has an asynchronous twin (``asolve``, ``asolve_many``), which does not block a loop that runs already; the
plain ones work in a notebook too. Searches run in a thread of the Solver's own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from rstar.problem import Problem
from rstar.sdk.engine import CLOSED, Engine, Place
from rstar.sdk.errors import SolverError
from rstar.sdk.models import READY_SECONDS
from rstar.sdk.requests import Addresses, SolveRequest, addresses, checkpoint_options, gpus_of, solve_request
from rstar.sdk.solution import Outcome, Solution

if TYPE_CHECKING:
    from rstar.record import Progress

T = TypeVar("T")

CONCURRENCY: Final = 8
DEFAULT_STORE: Final = "rstar-store"


class Solver:
    """Answers questions by search. Make one with ``from_checkpoints`` or ``connect``.

    Services that it needs are started at ``open``, at entering ``with`` or at the first question. They end at ``close``,
    at leaving ``with``, when the Solver is deleted, and with this process, however it ends.
    """

    def __init__(self, place: Place) -> None:
        self._engine = Engine(place)
        self._guided = place.guided
        self._finalizer = weakref.finalize(self, self._engine.close)

    @classmethod
    def from_checkpoints(
        cls,
        policy: str | Path,
        ppm: str | Path | None = None,
        *,
        device: str = "auto",
        executor: Addresses = None,
        prompt: str = "trained",
        store: str | Path | None = None,
    ) -> Self:
        """Serve two checkpoints on this machine: folders, ``store:PREFIX`` or ``hf:ORG/NAME@REVISION``.

        ``device``: ``auto`` (all GPUs that are visible, else the CPU), ``cpu``, or ``cuda:0``. ``executor``: addresses of
        executors that run; None starts one here. ``prompt``: ``trained`` for a policy that rounds have trained,
        ``bootstrap`` (few-shot) or ``chat`` for a model from elsewhere. ``store``: for ``store:`` URIs, by default
        RSTAR_STORE or ``rstar-store``. Raises ``ValueError`` for wrong arguments, before anything starts.
        """
        options = checkpoint_options(policy, ppm, executor, prompt)
        chosen = str(store or os.environ.get("RSTAR_STORE") or DEFAULT_STORE)
        # Services get it as an argument, and may not start in this folder.
        absolute = chosen if "://" in chosen else str(Path(chosen).absolute())
        return cls(Place(services=options, store=absolute, gpus=gpus_of(device)))

    @classmethod
    def connect(
        cls,
        search: Addresses = None,
        *,
        policy: Addresses = None,
        executor: Addresses = None,
        ppm: Addresses = None,
        ready_seconds: float = READY_SECONDS,
    ) -> Self:
        """Use services that run already, each at ``HOST:PORT`` or at several of them.

        ``search``: search coordinators, which have their own models and executors; or the addresses of a ``policy``, and of
        an ``executor`` and a ``ppm`` where there are some: without an executor one is started here. TLS is set by the
        environment, as for the commands. ``ready_seconds``: the longest wait for a server. Raises ``ValueError``.
        """
        from rstar.local.session import ServiceOptions

        coordinators = addresses("search", search)
        policies, executors, ppms = (
            addresses(name, given) for name, given in (("policy", policy), ("executor", executor), ("ppm", ppm))
        )
        if bool(coordinators) == bool(policies):
            raise ValueError("give the address of a search coordinator, or policy=HOST:PORT")
        if coordinators and (executors or ppms):
            raise ValueError("a search coordinator has its own PPM and executors: leave ppm and executor out")
        if not 0 < ready_seconds < math.inf:
            raise ValueError(f"ready_seconds is a number of seconds above 0, not {ready_seconds!r}")
        services = None if coordinators else ServiceOptions(policy=policies, ppm=ppms, executor=executors)
        return cls(Place(search=coordinators, services=services, ready_seconds=ready_seconds))

    def open(self) -> Self:
        """Start and connect the services now. Raises ``ServicesError``."""
        _result(self._engine.open())
        return self

    def close(self) -> None:
        """End all searches and the services that were started; a second call does nothing."""
        self._finalizer()

    def solve(
        self,
        question: str | Problem | None = None,
        *,
        problem: Problem | None = None,
        expected: object = None,
        verifier: str = "math-verify",
        method: str = "mcts",
        rollouts: int = 16,
        seed: int = 0,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> Solution:
        """Search one question, or a ``problem``, and return its solution.

        ``expected``: the right answer, as a number or a text; the solution then has a ``verdict`` by ``verifier``.
        ``method``: mcts, beam, best-of-n, majority or greedy; ``settings``: any other field of ``rstar.SearchConfig``.
        The same ``seed``, settings and models give the same search. ``timeout``: seconds until the search is ended.
        ``progress`` is called with a ``Progress`` (usage, trajectories, correct, leading), in another thread; its exception ends
        the search. Ctrl-C ends the search.

        Raises ``ValueError`` for wrong arguments, ``SolveTimeoutError``, ``ServicesError``, or another ``SolverError``.
        """
        request = solve_request(
            self._guided,
            question,
            problem=problem,
            expected=expected,
            verifier=verifier,
            method=method,
            rollouts=rollouts,
            seed=seed,
            timeout=timeout,
            progress=progress,
            **settings,
        )
        return _result(self._engine.solve(request))

    async def asolve(
        self,
        question: str | Problem | None = None,
        *,
        problem: Problem | None = None,
        expected: object = None,
        verifier: str = "math-verify",
        method: str = "mcts",
        rollouts: int = 16,
        seed: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109 - the same arguments as solve
        progress: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> Solution:
        """As ``solve``, without blocking the running loop; cancelling the task ends the search."""
        request = solve_request(
            self._guided,
            question,
            problem=problem,
            expected=expected,
            verifier=verifier,
            method=method,
            rollouts=rollouts,
            seed=seed,
            timeout=timeout,
            progress=progress,
            **settings,
        )
        return await asyncio.wrap_future(self._engine.solve(request))

    def solve_many(
        self, questions: Iterable[str | Problem], *, concurrency: int = CONCURRENCY, **arguments: Any
    ) -> Iterator[Outcome]:
        """Search many questions, ``concurrency`` at a time, and yield each outcome as soon as there is one.

        ``questions`` may be endless: it is read as slots become free. ``arguments`` are those of ``solve``. A question that
        fails is an ``Outcome`` with its ``error``, and ends nothing; leaving the loop ends the searches that are running.
        Raises ``ValueError`` for wrong arguments, before the first search.
        """
        check = self._checked_many(questions, concurrency, arguments)
        return self._outcomes(enumerate(questions), concurrency, check)

    def asolve_many(
        self,
        questions: Iterable[str | Problem] | AsyncIterable[str | Problem],
        *,
        concurrency: int = CONCURRENCY,
        **arguments: Any,
    ) -> AsyncIterator[Outcome]:
        """As ``solve_many``, for ``async for``; ``questions`` may be asynchronous too."""
        check = self._checked_many(questions, concurrency, arguments)
        return self._aoutcomes(_as_async(questions), concurrency, check)

    def _outcomes(
        self, questions: Iterator[tuple[int, str | Problem]], concurrency: int, check: _Check
    ) -> Iterator[Outcome]:
        running: dict[Future[Solution], tuple[int, str | Problem]] = {}
        more = True
        try:
            while more or running:
                while more and len(running) < concurrency:
                    item = next(questions, None)
                    if item is None:
                        more = False
                    elif isinstance(begun := self._begun(item[1], check), Exception):
                        yield _outcome(item, begun)
                    else:
                        running[begun] = item
                if running:
                    done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        yield _outcome(running.pop(future), future)
        finally:
            for future in running:
                future.cancel()

    async def _aoutcomes(
        self, questions: AsyncIterator[tuple[int, str | Problem]], concurrency: int, check: _Check
    ) -> AsyncIterator[Outcome]:
        running: dict[asyncio.Future[Solution], tuple[int, str | Problem]] = {}
        more = True
        try:
            while more or running:
                while more and len(running) < concurrency:
                    item = await anext(questions, None)
                    if item is None:
                        more = False
                    elif isinstance(begun := self._begun(item[1], check), Exception):
                        yield _outcome(item, begun)
                    else:
                        running[asyncio.wrap_future(begun)] = item
                if running:
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for future in done:
                        yield _outcome(running.pop(future), future)
        finally:
            for future in running:
                future.cancel()

    def _begun(self, question: str | Problem, check: _Check) -> Future[Solution] | Exception:
        """Start the search of one of many; a wrong question is returned as its error."""
        try:
            request = check(question)
        except ValueError as error:
            return error
        return self._engine.solve(request)

    def _checked_many(self, questions: object, concurrency: int, arguments: dict[str, Any]) -> _Check:
        """Return what makes a request of a question; every argument but the single questions is checked now."""
        if isinstance(questions, str | Problem):
            raise ValueError("solve_many takes a list of questions; use solve for a single one")
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ValueError(f"concurrency is a whole number from 1 on, not {concurrency!r}")
        if "problem" in arguments or "expected" in arguments:
            raise ValueError("give rstar.Problem objects with their answers as the questions of solve_many")

        def check(question: str | Problem) -> SolveRequest:
            return solve_request(self._guided, "" if question is None else question, **arguments)

        check("any question")
        return check

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wrap_future(self._engine.open())
        except BaseException:
            await asyncio.to_thread(self.close)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)


_Check = Callable[[str | Problem], SolveRequest]


def _result(future: Future[T]) -> T:
    """Wait for a result; an interrupted wait, as by Ctrl-C, cancels the work."""
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise SolverError(CLOSED) from None
    except BaseException:
        future.cancel()
        raise


def _outcome(
    item: tuple[int, str | Problem], found: Future[Solution] | asyncio.Future[Solution] | Exception
) -> Outcome:
    index, given = item
    question = given.question if isinstance(given, Problem) else str(given)
    if isinstance(found, Exception):
        return Outcome(index, question, None, found)
    if found.cancelled():
        return Outcome(index, question, None, SolverError(CLOSED))
    error = found.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return Outcome(index, question, None if error else found.result(), error)


async def _as_async(
    questions: Iterable[str | Problem] | AsyncIterable[str | Problem],
) -> AsyncIterator[tuple[int, str | Problem]]:
    if isinstance(questions, AsyncIterable):
        index = 0
        async for question in questions:
            yield index, question
            index += 1
        return
    for item in enumerate(questions):
        yield item
