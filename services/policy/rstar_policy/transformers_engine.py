"""The engine for any causal language model that Hugging Face transformers can load, on CPU or one GPU.

Calls are queued; one worker thread owns the model and decodes the candidates of all calls together. An error fails the
calls of its batch only. A check at loading refuses models whose layers keep other state than full keys and values, such
as recurrent state; models with a sliding window are limited to it. Not covered: tensor parallelism and several devices.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import structlog

from rstar.interfaces import Proposal, Sampling, State
from rstar.models.closing import ClosedOnExit
from rstar.models.free_memory import PREFIX_SHARE, check_share, free_bytes
from rstar.models.futures import set_from_thread, settle_from_thread
from rstar.prompt import FEW_SHOT, PromptStyle
from rstar.store.digests import checkpoint_digest
from rstar_policy import metrics
from rstar_policy.candidates import Job
from rstar_policy.decoder import Decoder
from rstar_policy.engine import check_request, room_after
from rstar_policy.loading import load_model
from rstar_policy.policy_tokenizer import PolicyTokenizer

MAX_ROWS: Final = 1_024
MAX_STEPS_WAITED: Final = 3
"""Most decoding steps that a new request waits for others, to be admitted together."""
ADMITTED_SHARE: Final = 4
"""Requests are admitted at once when they are at least 1/4 of the running candidates."""


@dataclass(eq=False, slots=True)
class _Call:
    """One caller's request, or ``n`` candidates of it from number ``first`` on, and the future of its answer."""

    state: State
    n: int
    sampling: Sampling
    seed: int
    answer: asyncio.Future[Proposal]
    begun: asyncio.Event | None = None
    first: int = 0
    job: Job | None = None

    def settle(self, result: Proposal | BaseException) -> None:
        """Hand the result to the caller's event loop."""
        settle_from_thread(self.answer, result)


@dataclass(frozen=True, slots=True)
class _Cancel:
    call: _Call


_Message = _Call | _Cancel | None


def admitted_now(waiting: int, running: int, steps_waited: int) -> bool:
    """Return whether ``waiting`` candidates join the ``running`` ones now, after so many decoding steps.

    New prompts cost one forward pass whatever their number, so a few of them wait a few steps for others.
    """
    return waiting * ADMITTED_SHARE >= running or steps_waited >= MAX_STEPS_WAITED


class TransformersPolicy(ClosedOnExit):
    """An ``Engine``, and so a ``rstar.interfaces.Policy``; usable without any service.

    >>> async with TransformersPolicy.load("checkpoint") as policy:          # doctest: +SKIP
    ...     proposal = await policy.propose(State("p", "1+1?"), 8, Sampling(stop=STEP_STOPS), seed=0)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PolicyTokenizer,
        context: int,
        digest: str,
        max_rows: int = MAX_ROWS,
        prefix_share: float = PREFIX_SHARE,
    ) -> None:
        """Start the worker. ``context`` is the most tokens of prompt and continuation together."""
        self._tokenizer = tokenizer
        self._context = context
        self._digest = digest
        self._max_rows = max_rows
        self._prefix_bytes = int(prefix_share * free_bytes(model.device))
        self._decoder = Decoder(model, tokenizer, self._prefix_bytes)
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
        few_shot: str = FEW_SHOT,
        threads: int | None = None,
        max_rows: int = MAX_ROWS,
        prefix_share: float = PREFIX_SHARE,
        device: str = "auto",
        dtype: str = "auto",
        digest: str | None = None,
    ) -> Self:
        """Load a Hugging Face folder (blocking). ``digest`` None computes the checkpoint's.

        ``threads`` are torch's CPU threads (None: torch's default); ``prefix_share``, at least 0 and below 1, is the share of
        the memory free after loading that keeps keys and values of earlier prompts. Raises ``ValueError`` for another share,
        and for a folder or a model that this engine cannot serve.
        """
        check_share(prefix_share)
        loaded = load_model(path, device=device, dtype=dtype, threads=threads)
        tokenizer = PolicyTokenizer(loaded.tokenizer, prompt, loaded.eos_ids, few_shot)
        return cls(
            loaded.model, tokenizer, loaded.context, digest or checkpoint_digest(Path(path)), max_rows, prefix_share
        )

    @property
    def digest(self) -> str:
        """Digest of the checkpoint."""
        return self._digest

    @property
    def prefix_bytes(self) -> int:
        """Most bytes of keys and values of earlier prompts."""
        return self._prefix_bytes

    @property
    def candidates(self) -> int:
        """Candidates being generated."""
        return self._decoder.candidates

    async def propose(
        self, state: State, n: int, sampling: Sampling, seed: int, begun: asyncio.Event | None = None
    ) -> Proposal:
        """Return n candidates; see ``Engine.propose``. More than ``max_rows`` are decoded in parts."""
        check_request(n, sampling, seed)
        if self._closed:
            raise RuntimeError("the policy engine is closed")
        loop = asyncio.get_running_loop()
        parts = [
            _Call(state, min(self._max_rows, n - first), sampling, seed, loop.create_future(), begun, first)
            for first in range(0, n, self._max_rows)
        ]
        for part in parts:
            self._inbox.put(part)
        try:
            proposals = await asyncio.gather(*(part.answer for part in parts))
        except BaseException:  # cancelled, or one part failed
            for part in parts:
                self._inbox.put(_Cancel(part))
            raise
        return Proposal(tuple(candidate for proposal in proposals for candidate in proposal.candidates), self._digest)

    async def failed(self) -> str:
        """Wait for the end of the worker, which survives every error of a batch, and return that as a sentence."""
        await asyncio.to_thread(self._worker.join)
        return "the policy's worker thread has ended"

    async def close(self) -> None:
        """End the worker; waiting calls fail with ``RuntimeError``. Closing twice is allowed."""
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._worker.join)

    def _work(self) -> None:
        """Run until closed: receive calls, admit those that fit, give every candidate one token."""
        steps_waited = 0
        while self._receive():
            if admitted_now(sum(call.n for call in self._waiting), self._decoder.candidates, steps_waited):
                self._guarded(self._admit)
                steps_waited = 0
            else:
                steps_waited += 1
            self._count_queued()
            if self._decoder.candidates:
                metrics.BATCH_ROWS.observe(self._decoder.rows)
                self._guarded(self._step)
        for call in (*self._waiting, *self._running.values()):
            call.settle(RuntimeError("the policy engine was closed during the call"))
        self._waiting.clear()
        self._count_queued()

    def _count_queued(self) -> None:
        metrics.QUEUED.set(sum(call.n for call in self._waiting))
        metrics.QUEUED_TOKENS.set(sum(call.job.tokens for call in self._waiting if call.job is not None))

    def _receive(self) -> bool:
        """Take all messages; wait for one when there is nothing to decode. False: close."""
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
                self._cancel(message.call)
            elif self._encode(message):
                self._waiting.append(message)

    def _encode(self, call: _Call) -> bool:
        """Encode ``call`` as a job; False after an error that ends the call."""
        try:
            prompt = tuple(self._tokenizer.encode(call.state.question, call.state.steps))
            rule = self._tokenizer.stop_rule(call.sampling.stop)
        except Exception as error:
            call.settle(RuntimeError(f"the tokenizer failed: {error}"))
            return False
        try:
            room = room_after(prompt, self._context)
        except ValueError as error:
            call.settle(error)
            return False
        call.job = Job(prompt, call.n, call.sampling, call.seed, rule, room, call.first)
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
            if call.begun is not None:
                set_from_thread(call.begun, call.answer.get_loop())
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

    def _cancel(self, call: _Call) -> None:
        job = call.job
        if job is not None and self._running.pop(id(job), None) is not None:
            self._guarded(lambda: self._decoder.drop([job]))
        elif call in self._waiting:
            self._waiting.remove(call)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run ``work``. An error fails the running calls, but the worker continues."""
        try:
            work()
        except Exception as error:
            structlog.get_logger().exception("batch_failed", calls=len(self._running))
            metrics.FAILED_BATCHES.inc()
            for call in self._running.values():
                call.settle(RuntimeError(f"the batch failed: {type(error).__name__}: {error}"))
            self._running.clear()
            self._decoder.clear()
