"""A PPM on vLLM's pooling engine, for GPUs.

The candidates of a call are sent together and share their prefix in vLLM's prefix cache. Token ids, positions of the scores
and rounding are those of ``transformers_ppm``; the two engines agree within 1e-5 in float32.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from transformers import AutoConfig, AutoTokenizer

from rstar.interfaces import Scores, State
from rstar.models.checkpoint_files import check_checkpoint
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.vllm_runtime import VllmEngine, VllmOptions, last_output, request_id, start_engine
from rstar.prompt import PromptStyle
from rstar.store.digests import checkpoint_digest
from rstar_ppm import metrics
from rstar_ppm.conventions import StepEncoder, rstar
from rstar_ppm.engine import check_length
from rstar_ppm.scorer import DECIMALS

ADMITTED_ROWS: Final = 2
"""Texts given to vLLM per row of the engine: the next pass must find texts when one ends. The others wait here."""


@dataclass(frozen=True, slots=True)
class _Request:
    """Token ids, and the positions of the scores; None: the last one."""

    ids: tuple[int, ...]
    marks: tuple[int, ...] | None


class VllmPreferenceModel(VllmEngine):
    """A ``rstar.interfaces.PreferenceModel``; usable without any service, inside a running event loop."""

    def __init__(self, llm: Any, encoder: StepEncoder, digest: str, max_rows: int) -> None:
        """Take a running pooling ``AsyncLLM`` of a model with a head, which runs ``max_rows`` texts at once."""
        super().__init__(llm)
        self._encoder = encoder
        self._digest = digest
        self._places = asyncio.Semaphore(ADMITTED_ROWS * max_rows)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        prompt: PromptStyle = "trained",
        options: VllmOptions = VllmOptions(),  # noqa: B008 - it is frozen
        digest: str | None = None,
    ) -> Self:
        """Start the engine for a Hugging Face folder (blocking). ``digest`` None computes the checkpoint's.

        Raises ``ValueError`` for a folder that holds no model with one scalar head or that vLLM cannot serve, a tokenizer
        that does not keep texts, and a missing vLLM; ``EngineStartError`` when vLLM's process ends.
        """
        folder = Path(path)
        check_checkpoint(folder, "ppm")
        labels = AutoConfig.from_pretrained(folder).num_labels
        if labels != 1:
            raise ValueError(f"{path} gives {labels} labels: a PPM has one score (num_labels=1)")
        tokenizer = TrajectoryTokenizer(AutoTokenizer.from_pretrained(folder))
        llm = start_engine(folder, options, runner="pooling", convert="classify", pooler_config=_pooling())
        return cls(llm, rstar(tokenizer, prompt), digest or checkpoint_digest(folder), options.max_rows)

    async def score(self, state: State, candidates: Sequence[str], begun: asyncio.Event | None = None) -> Scores:
        """Score each candidate as the next step of ``state``, in [-1, 1], to 6 decimals.

        ``begun`` is set when vLLM gets the first of the texts. Raises ``ValueError`` with one sentence for a text
        longer than the context, ``EngineLost`` when vLLM has ended, ``RuntimeError`` when it failed or is closed.
        """
        prefix = self._encoder.encoded(state.question, state.steps).ids
        number = len(state.steps) + 1
        return await self._scores(
            [_Request((*prefix, *step), None) for step in (self._encoder.step(text, number) for text in candidates)],
            begun,
        )

    async def score_steps(self, state: State, begun: asyncio.Event | None = None) -> Scores:
        """Score each of the state's steps as the next one after those before it, in one pass; raises as ``score`` does."""
        encoded = self._encoder.encoded(state.question, state.steps)
        return await self._scores([_Request(encoded.ids, encoded.ends)] if state.steps else [], begun)

    async def _scores(self, requests: Sequence[_Request], begun: asyncio.Event | None) -> Scores:
        if self._closed:
            raise RuntimeError("the preference model is closed")
        check_length(max((len(request.ids) for request in requests), default=0), self._context)
        scoring = [asyncio.ensure_future(self._logits(request, begun)) for request in requests]
        try:
            logits = [logit for found in await asyncio.gather(*scoring) for logit in found]
        finally:
            for task in scoring:
                task.cancel()
        if any(map(math.isnan, logits)):
            raise RuntimeError("the model gave scores that are no numbers: its weights or its dtype are broken")
        metrics.SCORED.inc(len(logits))
        return Scores(tuple(round(math.tanh(logit), DECIMALS) for logit in logits), self._digest)

    async def _logits(self, request: _Request, begun: asyncio.Event | None) -> list[float]:
        async with self._place(len(request.ids)):
            if begun is not None:
                begun.set()
            return await self._given_logits(request)

    @asynccontextmanager
    async def _place(self, tokens: int) -> AsyncIterator[None]:
        """Hold a place among the texts that vLLM has; a text that waits for one is counted as queued."""
        metrics.QUEUED.inc()
        metrics.QUEUED_TOKENS.inc(tokens)
        try:
            await self._places.acquire()
        finally:
            metrics.QUEUED.dec()
            metrics.QUEUED_TOKENS.dec(tokens)
        try:
            yield
        finally:
            self._places.release()

    async def _given_logits(self, request: _Request) -> list[float]:
        from vllm import PoolingParams

        if self._closed:  # while the text waited
            raise RuntimeError("the preference model is closed")
        task = "classify" if request.marks is None else "token_classify"
        parameters = PoolingParams(task=task, use_activation=False)
        prompt = {"prompt_token_ids": list(request.ids)}
        found = (await last_output(self._llm.encode(prompt, parameters, request_id()))).outputs.data.flatten().tolist()
        return found[:1] if request.marks is None else [found[mark] for mark in request.marks]


def _pooling() -> Any:
    from vllm.config import PoolerConfig

    return PoolerConfig(task="classify", seq_pooling_type="LAST", use_activation=False)
