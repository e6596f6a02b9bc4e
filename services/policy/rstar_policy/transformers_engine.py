"""The engine for any causal language model that Hugging Face transformers can load, on CPU or one GPU.

Callers queue up; one worker thread owns the model and runs the decoder over everybody's candidates. An error
fails the calls it touches and nothing else. Models whose layers keep anything but full keys and values (recurrent
state, sliding windows shorter than the text) are refused by a check when they are loaded, or limited to their window. One process,
one device: tensor parallelism is another engine's business.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from rstar.interfaces import Proposal, Sampling, State
from rstar.prompt import PromptStyle
from rstar.store.digests import checkpoint_digest
from rstar_policy import metrics
from rstar_policy.candidates import Job
from rstar_policy.decoder import Decoder
from rstar_policy.engine import check_request
from rstar_policy.loading import load_model
from rstar_policy.token_text import Codec

MAX_ROWS: Final = 1_024
GATHER_STEPS: Final = 3
"""Most tokens that a new request waits for others to be admitted with it."""
GATHERED_SHARE: Final = 4
"""A quarter of the running candidates is company enough."""


@dataclass(eq=False, slots=True)
class _Call:
    """One caller's request on its way through the worker."""

    state: State
    n: int
    sampling: Sampling
    seed: int
    answer: asyncio.Future[Proposal]
    loop: asyncio.AbstractEventLoop
    job: Job | None = None

    def settle(self, result: Proposal | BaseException) -> None:
        """Hand the result to the caller's event loop."""

        def deliver() -> None:
            if self.answer.done():
                return
            if isinstance(result, Proposal):
                self.answer.set_result(result)
            else:
                self.answer.set_exception(result)

        try:
            self.loop.call_soon_threadsafe(deliver)
        except RuntimeError:
            structlog.get_logger().info("caller_gone")  # its event loop has ended; nobody waits for the answer


@dataclass(frozen=True, slots=True)
class _Cancel:
    call: _Call


_Message = _Call | _Cancel | None


def gathered(waiting: int, running: int, steps_waited: int) -> bool:
    """Say whether ``waiting`` candidates are admitted now, beside ``running`` ones, after so many steps.

    Running new prompts costs a forward pass whatever their number, so a few wait a few tokens for company.
    """
    return waiting * GATHERED_SHARE >= running or steps_waited >= GATHER_STEPS


class TransformersPolicy:
    """An ``Engine``, and so a ``rstar.interfaces.Policy``; usable without any service.

    >>> async with TransformersPolicy.load("checkpoint") as policy:          # doctest: +SKIP
    ...     proposal = await policy.propose(State("p", "1+1?"), 8, Sampling(stop=STEP_STOPS), seed=0)
    """

    def __init__(self, model: Any, codec: Codec, context: int, digest: str, max_rows: int = MAX_ROWS) -> None:
        """Start the worker. ``context`` is the most tokens of prompt and continuation together."""
        self._codec = codec
        self._context = context
        self._digest = digest
        self._max_rows = max_rows
        self._decoder = Decoder(model, codec)
        self._decoder.check()
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._waiting: deque[_Call] = deque()
        self._running: dict[int, _Call] = {}
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="policy-decoder", daemon=True)
        self._worker.start()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        prompt: PromptStyle = "trained",
        threads: int | None = None,
        max_rows: int = MAX_ROWS,
        device: str = "auto",
        dtype: str = "auto",
        digest: str | None = None,
    ) -> Self:
        """Load a Hugging Face folder (blocking). ``digest`` None computes the checkpoint's.

        ``threads`` are torch's CPU threads (None: torch's default). Raises ``ValueError`` for a folder or a model that
        this engine cannot serve.
        """
        loaded = load_model(path, device=device, dtype=dtype, threads=threads)
        codec = Codec(loaded.tokenizer, prompt, loaded.eos_ids)
        return cls(loaded.model, codec, loaded.context, digest or checkpoint_digest(Path(path)), max_rows)

    @property
    def digest(self) -> str:
        """Digest of the checkpoint."""
        return self._digest

    @property
    def candidates(self) -> int:
        """Candidates that are being generated now."""
        return self._decoder.candidates

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        """Return n candidates; see ``Engine.propose``."""
        check_request(n, sampling, seed, self._max_rows)
        if self._closed:
            raise RuntimeError("the policy engine is closed")
        loop = asyncio.get_running_loop()
        call = _Call(state, n, sampling, seed, loop.create_future(), loop)
        self._inbox.put(call)
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._inbox.put(_Cancel(call))
            raise

    async def close(self) -> None:
        """End the worker; calls that wait fail with ``RuntimeError``. Closing twice is allowed."""
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._worker.join)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _work(self) -> None:
        """Run until closed: take what has arrived, admit what fits, give everybody one token."""
        steps_waited = 0
        while self._receive():
            if gathered(sum(call.n for call in self._waiting), self._decoder.candidates, steps_waited):
                self._guarded(self._admit)
                steps_waited = 0
            else:
                steps_waited += 1
            metrics.QUEUED.set(sum(call.n for call in self._waiting))
            if self._decoder.candidates:
                metrics.BATCH_ROWS.observe(self._decoder.rows)
                self._guarded(self._step)
        for call in (*self._waiting, *self._running.values()):
            call.settle(RuntimeError("the policy engine was closed during the call"))

    def _receive(self) -> bool:
        """Take all messages; wait for one when there is nothing to do. False: close."""
        idle = not self._waiting and not self._decoder.candidates
        while True:
            try:
                message = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            idle = False
            if message is None:
                return False
            if isinstance(message, _Cancel):
                self._forget(message.call)
            elif self._encode(message):
                self._waiting.append(message)

    def _encode(self, call: _Call) -> bool:
        """Give ``call`` its job; False when it can never be served."""
        try:
            prompt = tuple(self._codec.encode(call.state.question, call.state.steps))
            rule = self._codec.stop_rule(call.sampling.stop)
        except Exception as error:
            call.settle(RuntimeError(f"the tokenizer failed: {error}"))
            return False
        room = self._context - len(prompt)
        if room < 1 or not prompt:
            call.settle(
                ValueError(
                    f"the prompt has {len(prompt)} tokens and the model's context is {self._context}: "
                    "shorten the question or the steps"
                )
            )
            return False
        call.job = Job(prompt, call.n, call.sampling, call.seed, rule, room)
        return True

    def _admit(self) -> None:
        free = self._max_rows - self._decoder.candidates
        jobs = []
        while self._waiting and self._waiting[0].n <= free:
            call = self._waiting.popleft()
            assert call.job is not None
            free -= call.n
            jobs.append(call.job)
            self._running[id(call.job)] = call
        if jobs:
            self._deliver(self._decoder.admit(jobs))

    def _step(self) -> None:
        self._deliver(self._decoder.step())

    def _deliver(self, jobs: list[Job]) -> None:
        for job in jobs:
            call = self._running.pop(id(job))
            candidates = tuple(job.finished[k] for k in range(job.n))
            metrics.TOKENS.inc(sum(candidate.tokens for candidate in candidates))
            call.settle(Proposal(candidates, self._digest))

    def _forget(self, call: _Call) -> None:
        job = call.job
        if job is not None and self._running.pop(id(job), None) is not None:
            self._guarded(lambda: self._decoder.drop([job]))
        elif call in self._waiting:
            self._waiting.remove(call)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run one piece of work; its failure fails the calls in the batch, never the worker."""
        try:
            work()
        except Exception as error:
            structlog.get_logger().exception("batch_failed", calls=len(self._running))
            metrics.FAILED_BATCHES.inc()
            for call in self._running.values():
                call.settle(RuntimeError(f"the batch failed: {type(error).__name__}: {error}"))
            self._running.clear()
            self._decoder.clear()
