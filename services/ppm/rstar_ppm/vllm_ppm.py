"""A PPM on vLLM's pooling engine, for GPUs.

The candidates of a call are sent together and share their prefix in vLLM's prefix cache. Token ids, positions of the scores
and rounding are those of ``transformers_ppm``; the two engines agree within 1e-5 in float32.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from transformers import AutoConfig, AutoTokenizer

from rstar.interfaces import Scores, State
from rstar.models.checkpoint_files import check_checkpoint
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.vllm_runtime import VllmEngine, VllmOptions, last_output, request_id, start_engine
from rstar.prompt import PromptStyle
from rstar.store.digests import checkpoint_digest
from rstar_ppm import metrics
from rstar_ppm.engine import check_length
from rstar_ppm.scorer import DECIMALS


class VllmPreferenceModel(VllmEngine):
    """A ``rstar.interfaces.PreferenceModel``; usable without any service, inside a running event loop."""

    def __init__(self, llm: Any, tokenizer: TrajectoryTokenizer, style: PromptStyle, digest: str) -> None:
        """Take a running pooling ``AsyncLLM`` whose task is ``classify``."""
        super().__init__(llm)
        self._tokenizer = tokenizer
        self._style = style
        self._digest = digest
        self._queued = 0

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
        return cls(llm, tokenizer, prompt, digest or checkpoint_digest(folder))

    async def score(self, state: State, candidates: Sequence[str], begun: asyncio.Event | None = None) -> Scores:
        """Score each candidate as the next step of ``state``, in [-1, 1], to 6 decimals.

        ``begun`` is set at once: vLLM schedules the call with the others. Raises ``ValueError`` with one sentence for a text
        longer than the context, ``EngineLost`` when vLLM has ended, ``RuntimeError`` when it failed or is closed.
        """
        if self._closed:
            raise RuntimeError("the preference model is closed")
        prefix = self._tokenizer.state(state.question, state.steps, self._style)
        texts = [[*prefix, *self._tokenizer.step(candidate)] for candidate in candidates]
        check_length(max(map(len, texts), default=0), self._context)
        if begun is not None:
            begun.set()
        self._count_queued(len(texts))
        scoring = [asyncio.ensure_future(self._logit(ids)) for ids in texts]
        try:
            logits = await asyncio.gather(*scoring)
        finally:
            for task in scoring:
                task.cancel()
            self._count_queued(-len(texts))
        if any(map(math.isnan, logits)):
            raise RuntimeError("the model gave scores that are no numbers: its weights or its dtype are broken")
        metrics.SCORED.inc(len(logits))
        return Scores(tuple(round(math.tanh(logit), DECIMALS) for logit in logits), self._digest)

    async def _logit(self, ids: list[int]) -> float:
        from vllm import PoolingParams

        parameters = PoolingParams(task="classify", use_activation=False)
        output = await last_output(self._llm.encode({"prompt_token_ids": ids}, parameters, request_id()))
        return float(output.outputs.data.flatten()[0])

    def _count_queued(self, change: int) -> None:
        self._queued += change
        metrics.QUEUED.set(self._queued)


def _pooling() -> Any:
    from vllm.config import PoolerConfig

    return PoolerConfig(task="classify", seq_pooling_type="LAST", use_activation=False)
