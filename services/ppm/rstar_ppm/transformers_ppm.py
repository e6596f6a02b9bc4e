"""A PPM from a Hugging Face folder, shared by many concurrent callers.

Calls are encoded and queued; one worker thread takes all waiting calls, packs each call's candidates after their prefix,
and scores rows of similar length together. An error fails the calls of its batch only. The platform's own PPMs score
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
from rstar.models.free_memory import PREFIX_SHARE, check_share, free_bytes
from rstar.models.futures import set_from_thread, settle_from_thread
from rstar.models.model_folder import ConventionName
from rstar.prompt import PromptStyle
from rstar.store.digests import checkpoint_digest
from rstar_ppm import metrics
from rstar_ppm.conventions import Encoded, StepEncoder, step_encoder
from rstar_ppm.engine import check_length
from rstar_ppm.heads import Loading, ScoringModel, load_scoring_model
from rstar_ppm.packing import Row, rows_of
from rstar_ppm.scorer import Scorer

MAX_ROWS: Final = 256


@dataclass(eq=False, slots=True)
class _Call:
    """A prefix with candidates, as token ids; ``candidates`` None: the steps of the prefix are scored."""

    prefix: Encoded
    candidates: list[list[int]] | None
    answer: asyncio.Future[Scores]
    begun: asyncio.Event | None = None
    slots: range = range(0)
    waiting: bool = False

    @property
    def size(self) -> int:
        """The number of its scores."""
        return len(self.prefix.ends if self.candidates is None else self.candidates)

    def wait(self) -> None:
        """Count the call as one that waits, until ``leave_queue``."""
        self.waiting = True
        metrics.QUEUED.inc(self.size)
        metrics.QUEUED_TOKENS.inc(self._tokens)

    def leave_queue(self) -> None:
        """Count the call as one that waits no more; a second time nothing happens."""
        if self.waiting:
            self.waiting = False
            metrics.QUEUED.dec(self.size)
            metrics.QUEUED_TOKENS.dec(self._tokens)

    def begin(self) -> None:
        """Leave the queue because the model begins with the call."""
        if self.waiting and self.begun is not None:
            set_from_thread(self.begun, self.answer.get_loop())
        self.leave_queue()

    @property
    def _tokens(self) -> int:
        return len(self.prefix.ids) + sum(map(len, self.candidates or ()))

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

    def __init__(
        self,
        model: ScoringModel,
        encoder: StepEncoder,
        digest: str,
        max_rows: int = MAX_ROWS,
        prefix_share: float = PREFIX_SHARE,
    ) -> None:
        """Start the worker. ``model`` is in evaluation mode, and ``encoder`` is of its convention."""
        self._encoder = encoder
        self._digest = digest
        self._max_rows = max_rows
        self._context = context_length(model.decoder)
        self._scorer = Scorer(model, int(prefix_share * free_bytes(model.decoder.device)))
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
        prefix_share: float = PREFIX_SHARE,
        device: str = "auto",
        dtype: str = "auto",
        digest: str | None = None,
        convention: ConventionName = "rstar",
    ) -> Self:
        """Load a Hugging Face folder (blocking). ``digest`` None computes the checkpoint's.

        ``threads`` are torch's CPU threads (None: torch's default); ``prefix_share``: see ``check_share``. Raises
        ``ValueError`` for another share, a folder that holds no model of the convention, an architecture that cannot be
        served, and a tokenizer that does not keep texts.
        """
        check_share(prefix_share)
        folder = Path(path)
        try:
            model = load_scoring_model(convention, Loading(folder, device, dtype, threads))
            tokenizer = TrajectoryTokenizer(model.tokenizer)
            encoder = step_encoder(convention, tokenizer, model.tokenizer.bos_token, prompt)
        except ValueError as error:
            if convention == "rstar":
                raise
            raise ValueError(f"{path} is no model of the convention {convention}: {error}") from error
        return cls(model, encoder, digest or checkpoint_digest(folder), max_rows, prefix_share)

    async def score(self, state: State, candidates: Sequence[str], begun: asyncio.Event | None = None) -> Scores:
        """Score each candidate as the next step of ``state``, in [-1, 1], to 6 decimals.

        ``begun`` is set when the model begins with the call. Raises ``ValueError`` with one sentence for a text longer than
        the context, ``RuntimeError`` when the model failed or is closed.
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
        call = _Call(*self._encoded(state, candidates), asyncio.get_running_loop().create_future(), begun)
        call.wait()
        self._inbox.put(call)
        return await call.answer

    def _encoded(self, state: State, candidates: tuple[str, ...] | None) -> tuple[Encoded, list[list[int]] | None]:
        """Return the token ids of a call. Encoded on arrival, so that the tokens of waiting calls are known."""
        try:
            prefix = self._encoder.encoded(state.question, state.steps)
            number = len(state.steps) + 1
            steps = None if candidates is None else [self._encoder.step(text, number) for text in candidates]
        except Exception as error:
            raise RuntimeError(f"the tokenizer failed: {error}") from error
        check_length(len(prefix.ids) + max(map(len, steps or ()), default=0), self._context)
        return prefix, steps

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
            self._score(calls)

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
                    waiting.leave_queue()
                    waiting.settle(RuntimeError("the preference model was closed during the call"))
                return None
            calls.append(call)

    def _score(self, calls: Sequence[_Call]) -> None:
        group = _CallGroup()
        for call in calls:
            if call.answer.cancelled():
                call.leave_queue()
            else:
                _add(call, group)
        for batch in self._scorer.batches(group.rows, self._max_rows):
            for row in batch:
                group.owner[row.slots[0]].begin()
            metrics.BATCH_ROWS.observe(len(batch))
            try:
                group.scores |= self._scorer.score(batch)
            except Exception as error:
                structlog.get_logger().exception("batch_failed", rows=len(batch))
                metrics.FAILED_BATCHES.inc()
                failure = RuntimeError(f"the batch failed: {type(error).__name__}: {error}")
                for row in batch:
                    group.owner[row.slots[0]].settle(failure)
            for call in dict.fromkeys(group.owner[row.slots[0]] for row in batch):
                if group.scores.keys() >= set(call.slots):
                    metrics.SCORED.inc(call.size)
                    call.settle(Scores(tuple(group.scores[slot] for slot in call.slots), self._digest))


def _add(call: _Call, group: _CallGroup) -> None:
    """Add the rows of ``call`` to ``group``."""
    call.slots = range(len(group.owner), len(group.owner) + call.size)
    group.owner += [call] * call.size
    if call.candidates is None:
        group.rows.append(Row(call.prefix.ids, (), tuple(call.slots), call.prefix.ends))
    else:
        group.rows += rows_of(call.prefix.ids, call.candidates, call.slots.start)
