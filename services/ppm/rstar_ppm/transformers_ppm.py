"""A PPM from a Hugging Face folder, shared by many concurrent callers.

Calls are queued; one worker thread takes all waiting calls, packs each call's candidates after their prefix, and scores
rows of similar length together. An error fails the calls of its batch only. The platform's own PPMs score
tanh(logit) at the candidate's last token (paper, section 3.3) of ``render(question, steps) + candidate``, encoded as in
training (``rstar.models.encoding``); public process reward models have other conventions (``rstar_ppm.conventions``).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import structlog

from rstar.interfaces import Scores, State
from rstar.models.architecture import context_length
from rstar.models.closing import ClosedOnExit
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.futures import set_from_thread, settle_from_thread
from rstar.models.model_folder import ConventionName
from rstar.prompt import PromptStyle
from rstar.store.digests import checkpoint_digest
from rstar_ppm import metrics
from rstar_ppm.conventions import StepEncoder, step_encoder
from rstar_ppm.engine import check_length
from rstar_ppm.heads import Loading, ScoringModel, load_scoring_model
from rstar_ppm.packing import Row, batches, rows_of
from rstar_ppm.scorer import Scorer

MAX_ROWS: Final = 256


@dataclass(eq=False, slots=True)
class _Call:
    """``candidates`` None: the steps of the state are scored."""

    state: State
    candidates: tuple[str, ...] | None
    answer: asyncio.Future[Scores]
    begun: asyncio.Event | None = None
    slots: range = range(0)
    error: Exception | None = None

    @property
    def size(self) -> int:
        """The number of its scores."""
        return len(self.state.steps if self.candidates is None else self.candidates)

    def settle(self, result: Scores | Exception) -> None:
        """Hand the result to the caller's event loop."""
        settle_from_thread(self.answer, result)


@dataclass(eq=False, slots=True)
class _CallGroup:
    """The calls that are scored together. The score in slot i belongs to a candidate of ``owner[i]``."""

    rows: list[Row] = field(default_factory=list)
    owner: list[_Call] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)


class TransformersPreferenceModel(ClosedOnExit):
    """A ``rstar.interfaces.PreferenceModel``; usable without any service.

    >>> async with TransformersPreferenceModel.load("ppm-checkpoint") as ppm:      # doctest: +SKIP
    ...     scores = await ppm.score(State("p", "1+1?"), ["<code>x = 2<end_of_step>"])
    """

    def __init__(self, model: ScoringModel, encoder: StepEncoder, digest: str, max_rows: int = MAX_ROWS) -> None:
        """Start the worker. ``model`` is in evaluation mode, and ``encoder`` is of its convention."""
        self._encoder = encoder
        self._digest = digest
        self._max_rows = max_rows
        self._context = context_length(model.decoder)
        self._scorer = Scorer(model)
        self._inbox: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="ppm-scorer", daemon=True)
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
        convention: ConventionName = "rstar",
    ) -> Self:
        """Load a Hugging Face folder (blocking). ``digest`` None computes the checkpoint's.

        ``threads`` are torch's CPU threads (None: torch's default). Raises ``ValueError`` for a folder that holds no model
        of the convention, an architecture that cannot be served, and a tokenizer that does not keep texts.
        """
        folder = Path(path)
        try:
            model = load_scoring_model(convention, Loading(folder, device, dtype, threads))
            tokenizer = TrajectoryTokenizer(model.tokenizer)
            encoder = step_encoder(convention, tokenizer, model.tokenizer.bos_token, prompt)
        except ValueError as error:
            if convention == "rstar":
                raise
            raise ValueError(f"{path} is no model of the convention {convention}: {error}") from error
        return cls(model, encoder, digest or checkpoint_digest(folder), max_rows)

    async def score(self, state: State, candidates: Sequence[str], begun: asyncio.Event | None = None) -> Scores:
        """Score each candidate as the next step of ``state``, in [-1, 1], to 6 decimals.

        ``begun`` is set when the call leaves the queue. Raises ``ValueError`` with one sentence for a text longer than the context, ``RuntimeError`` when the model
        failed or is closed.
        """
        return await self._answer(state, tuple(candidates), begun)

    async def score_steps(self, state: State, begun: asyncio.Event | None = None) -> Scores:
        """Score each of the state's steps as the next one after those before it, in one pass; raises as ``score`` does."""
        return await self._answer(state, None, begun)

    async def _answer(self, state: State, candidates: tuple[str, ...] | None, begun: asyncio.Event | None) -> Scores:
        if self._closed:
            raise RuntimeError("the preference model is closed")
        if not (state.steps if candidates is None else candidates):
            return Scores((), self._digest)
        call = _Call(state, candidates, asyncio.get_running_loop().create_future(), begun)
        self._inbox.put(call)
        return await call.answer

    async def failed(self) -> str:
        """Wait for the end of the worker, which survives every error of a batch, and return that as a sentence."""
        await asyncio.to_thread(self._worker.join)
        return "the PPM's worker thread has ended"

    async def close(self) -> None:
        """End the worker; waiting calls fail with ``RuntimeError``. Closing twice is allowed."""
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._worker.join)

    def _work(self) -> None:
        """Score all waiting calls together, repeatedly, until closed."""
        while (calls := self._receive()) is not None:
            metrics.QUEUED.set(sum(call.size for call in calls))
            self._score(calls)
            metrics.QUEUED.set(0)

    def _receive(self) -> list[_Call] | None:
        """Wait for a call and take all waiting ones; None: close."""
        calls: list[_Call] = []
        while True:
            try:
                call = self._inbox.get(block=not calls)
            except queue.Empty:
                return calls
            if call is None:
                for waiting in calls:
                    waiting.settle(RuntimeError("the preference model was closed during the call"))
                return None
            calls.append(call)

    def _score(self, calls: Sequence[_Call]) -> None:
        group = _CallGroup()
        for call in calls:
            if not call.answer.cancelled():
                if call.begun is not None:
                    set_from_thread(call.begun, call.answer.get_loop())
                self._add(call, group)
        for batch in batches(group.rows, self._max_rows):
            metrics.BATCH_ROWS.observe(len(batch))
            try:
                group.scores |= self._scorer.score(batch)
            except Exception as error:
                structlog.get_logger().exception("batch_failed", rows=len(batch))
                metrics.FAILED_BATCHES.inc()
                for slot in (slot for row in batch for slot in row.slots):
                    group.owner[slot].error = RuntimeError(f"the batch failed: {type(error).__name__}: {error}")
        for call in dict.fromkeys(group.owner):
            if call.error is None:
                metrics.SCORED.inc(len(call.slots))
            call.settle(call.error or Scores(tuple(group.scores[slot] for slot in call.slots), self._digest))

    def _add(self, call: _Call, group: _CallGroup) -> None:
        """Add the rows of ``call`` to ``group``, or end the call with an error when it cannot be scored."""
        try:
            encoded = self._encoder.encoded(call.state.question, call.state.steps)
            number = len(call.state.steps) + 1
            candidates = [self._encoder.step(candidate, number) for candidate in call.candidates or ()]
        except Exception as error:
            call.settle(RuntimeError(f"the tokenizer failed: {error}"))
            return
        try:
            check_length(len(encoded.ids) + max(map(len, candidates), default=0), self._context)
        except ValueError as error:
            call.settle(error)
            return
        call.slots = range(len(group.owner), len(group.owner) + call.size)
        group.owner += [call] * call.size
        if call.candidates is None:
            group.rows.append(Row(encoded.ids, (), tuple(call.slots), encoded.ends))
        else:
            group.rows += rows_of(encoded.ids, candidates, call.slots.start)
