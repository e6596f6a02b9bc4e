"""The engine for GPUs: vLLM's ``AsyncLLM``, with continuous batching, prefix caching and tensor parallelism.

Prompts are token ids from the project's own tokenizer, and texts are decoded by it, so that both engines read and write
the same bytes. A new checkpoint is a new engine: vLLM's reloading of weights is wrong for tied embeddings.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final, Self

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from rstar.interfaces import Candidate, Finish, Proposal, Sampling, State
from rstar.models.checkpoint_files import check_checkpoint
from rstar.models.encoding import TrajectoryTokenizer
from rstar.models.vllm_runtime import VllmEngine, VllmOptions, adapter_rank, last_output, request_id, start_engine
from rstar.prompt import FEW_SHOT, PromptStyle
from rstar.seeds import derive
from rstar.store.digests import checkpoint_digest, combined_digest
from rstar_policy import metrics
from rstar_policy.admission import Admission
from rstar_policy.engine import check_request, room_after
from rstar_policy.loading import eos_ids
from rstar_policy.policy_tokenizer import PolicyTokenizer
from rstar_policy.stopping import StopRule, cut

ADMITTED_ROWS: Final = 2
"""Candidates admitted per row of the engine. Requests end with their longest candidate, so some rows would stay empty."""


class VllmPolicy(VllmEngine):
    """An ``Engine``, and so a ``rstar.interfaces.Policy``; usable without any service, inside a running event loop.

    Candidate k of a call has the seed of the call plus k, as in vLLM's own ``n``.
    """

    def __init__(
        self, llm: Any, tokenizer: PolicyTokenizer, digest: str, max_rows: int, adapter: Path | None = None
    ) -> None:
        """Take a running ``AsyncLLM``."""
        super().__init__(llm)
        self._tokenizer = tokenizer
        self._digest = digest
        self._max_rows = max_rows
        self._admission = Admission(ADMITTED_ROWS * max_rows)
        self._adapter = adapter

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        prompt: PromptStyle = "trained",
        few_shot: str = FEW_SHOT,
        options: VllmOptions = VllmOptions(),  # noqa: B008 - it is frozen
        adapter: str | Path | None = None,
        digest: str | None = None,
    ) -> Self:
        """Start the engine for a Hugging Face folder (blocking). ``digest`` None computes the checkpoint's.

        ``adapter``: folder of a LoRA adapter, as PEFT writes it. Raises ``ValueError`` for a folder that vLLM cannot serve, a
        tokenizer that does not keep texts, and a missing vLLM; ``EngineStartError`` when vLLM's process ends.
        """
        folder = Path(path)
        check_checkpoint(folder, "policy")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ends = eos_ids(AutoConfig.from_pretrained(folder), _generation_config(folder), tokenizer)
        policy_tokenizer = PolicyTokenizer(TrajectoryTokenizer(tokenizer), prompt, ends, few_shot)
        more: dict[str, Any] = {}
        if adapter is not None:
            more = {"enable_lora": True, "max_lora_rank": adapter_rank(Path(adapter))}
        llm = start_engine(folder, options, **more)
        found = digest or checkpoint_digest(folder)
        if adapter is not None:
            found = combined_digest([("base", found), ("adapter", checkpoint_digest(Path(adapter)))])
        return cls(llm, policy_tokenizer, found, options.max_rows, None if adapter is None else Path(adapter))

    @property
    def digest(self) -> str:
        """Digest of the checkpoint, and of the adapter where there is one."""
        return self._digest

    @property
    def candidates(self) -> int:
        """Candidates being generated."""
        return self._admission.running

    async def propose(
        self, state: State, n: int, sampling: Sampling, seed: int, begun: asyncio.Event | None = None
    ) -> Proposal:
        """Return n candidates; see ``Engine.propose``. More than the engine's rows are generated in parts.

        Raises ``EngineLost`` when vLLM's process has ended, and ``Overloaded`` when too much waits.
        """
        check_request(n, sampling, seed)
        if self._closed:
            raise RuntimeError("the policy engine is closed")
        prompt = self._tokenizer.encode(state.question, state.steps)
        room = room_after(prompt, self._context)
        rule = self._tokenizer.stop_rule(sampling.stop)
        # Without randomness all candidates are one.
        drawn = n if sampling.temperature > 0 else 1
        parts = [
            asyncio.ensure_future(
                self._part(prompt, first, min(self._max_rows, drawn - first), sampling, seed, rule, room, begun)
            )
            for first in range(0, drawn, self._max_rows)
        ]
        try:
            candidates = [candidate for part in await asyncio.gather(*parts) for candidate in part]
        finally:
            for part in parts:
                part.cancel()
        return Proposal(tuple(candidates * (n // drawn)), self._digest)

    async def _part(
        self,
        prompt: list[int],
        first: int,
        n: int,
        sampling: Sampling,
        seed: int,
        rule: StopRule,
        room: int,
        begun: asyncio.Event | None,
    ) -> list[Candidate]:
        """Generate ``n`` candidates from number ``first`` on."""
        from vllm.lora.request import LoRARequest

        tokens = min(sampling.max_new_tokens, room)
        adapter = None if self._adapter is None else LoRARequest("adapter", 1, str(self._adapter))
        async with self._admission.admitted(n, len(prompt) + n * tokens):
            if begun is not None:
                begun.set()
            parameters = self._parameters(n, sampling, derive(seed, "vllm") // 2 + first, rule, tokens)
            output = await last_output(
                self._llm.generate({"prompt_token_ids": prompt}, parameters, request_id(), lora_request=adapter)
            )
        metrics.PROMPT_TOKENS.inc(len(prompt))
        metrics.CACHED_TOKENS.inc(output.num_cached_tokens or 0)
        candidates = [self._candidate(completion, rule) for completion in sorted(output.outputs, key=lambda o: o.index)]
        metrics.TOKENS.inc(sum(candidate.tokens for candidate in candidates))
        return candidates

    def _parameters(self, n: int, sampling: Sampling, seed: int, rule: StopRule, tokens: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            max_tokens=tokens,
            stop=list(rule.texts),
            stop_token_ids=[*rule.ids, *self._tokenizer.eos_ids],
            include_stop_str_in_output=True,
            # vLLM's text is used for nothing but the search for stop texts.
            detokenize=bool(rule.texts),
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
            # Only the log-probability of the token itself, under the model's full distribution at temperature 1.
            logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _candidate(self, completion: Any, rule: StopRule) -> Candidate:
        ids = list(completion.token_ids)
        if completion.finish_reason == "length":
            finish = Finish.LENGTH
        elif completion.finish_reason == "stop":
            ended = bool(ids) and ids[-1] in self._tokenizer.eos_ids and ids[-1] not in rule.ids
            finish = Finish.EOS if ended else Finish.STOP
        else:
            raise RuntimeError(f"vLLM ended a candidate with {completion.finish_reason!r}")
        text, finish = cut(self._tokenizer.decode(ids[: -1 if finish is Finish.EOS else None]), finish, rule)
        return Candidate(text, len(ids), float(completion.cumulative_logprob), finish)


def _generation_config(folder: Path) -> Any:
    return GenerationConfig.from_pretrained(folder) if (folder / "generation_config.json").is_file() else None
