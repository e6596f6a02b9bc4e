"""The processes of a round and the memory of each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rstar.config import SearchConfig
from rstar.rounds.estimate.memory import Memory, serving, training
from rstar.rounds.estimate.model_size import BYTES, ModelSize
from rstar.rounds.estimate.planned import PlannedRound
from rstar.rounds.estimate.search_cost import Texts
from rstar.rounds.observed import Stage

ROWS: Final = 1_024
"""``--max-rows`` of the policy service: most candidates that it generates at once."""


@dataclass(frozen=True, slots=True)
class ProcessEstimate:
    """Memory of one of ``count`` processes. ``longest``: with every sequence of a training batch at ``maxLength``."""

    name: str
    count: int
    memory: Memory
    longest: Memory | None = None


def processes(planned: PlannedRound) -> tuple[ProcessEstimate, ...]:
    """Return the model servers and the training processes of a round."""
    spec = planned.spec
    found = list(policy_servers(planned))
    if planned.guided or spec.guided_methods:
        found.append(ppm_server(planned))
    found.append(training_process(planned, Stage.TRAIN_POLICY))
    if spec.trains_ppm:
        found.append(training_process(planned, Stage.TRAIN_PPM))
    return tuple(found)


def policy_servers(planned: PlannedRound) -> Iterator[ProcessEstimate]:
    """Yield the policy server, and where another model searches in the rollout, that model's and the evaluation's.

    An endpoint's server is not the round's. Round 1 serves the base model in the rollout.
    """
    spec, other = planned.spec, planned.searching
    trained = stored_format(planned, Stage.TRAIN_POLICY)
    rollout = spec.rollout.concurrency * spec.search.trajectories * spec.search.candidates
    if spec.rollout.policy is None:
        stored = planned.model.dtype if spec.round == 1 else trained
        yield _policy_server(planned, "policy server", planned.model, planned.rollout_texts, rollout, stored)
        return
    if other is not None:
        yield _policy_server(planned, "policy server (rollout)", other, planned.rollout_texts, rollout, other.dtype)
    if planned.evaluated and spec.evaluate.methods:
        most = max(rows_of(method) for method in spec.evaluate.methods) * spec.evaluate.concurrency
        texts = planned.assumptions.texts
        yield _policy_server(planned, "policy server (evaluate)", planned.model, texts, most, trained)


def rows_of(config: SearchConfig) -> int:
    """Return the most candidates that one search has in flight."""
    match config.method:
        case "greedy":
            return 1
        case "best_of_n" | "majority":
            return config.rollouts
        case "beam":
            return config.beam_width * config.candidates
        case _:
            return config.trajectories * config.candidates


def _policy_server(
    planned: PlannedRound, name: str, model: ModelSize, texts: Texts, candidates: float, stored: str
) -> ProcessEstimate:
    """Return a policy server that generates for its share of all ``candidates`` in flight."""
    service = planned.spec.services.policy
    memory = serving(
        model,
        number_bytes=served_bytes(planned, service.dtype, stored=stored),
        sequences=min(service.slots or ROWS, candidates / service.size),
        length=texts.prompt_tokens + texts.steps * texts.step_tokens,
        devices=service.tensor_parallel,
    )
    return ProcessEstimate(name, service.size, memory)


def ppm_server(planned: PlannedRound) -> ProcessEstimate:
    """Return a PPM server: of a model that exists, or of the one that the rounds train."""
    service, given = planned.spec.services.ppm, planned.scoring
    stored = stored_format(planned, Stage.TRAIN_PPM) if given is None else given.dtype
    memory = serving(
        planned.model if given is None else given,
        number_bytes=served_bytes(planned, service.dtype, stored=stored),
        sequences=0,
        length=0,
        devices=service.tensor_parallel,
        policy=False,
    )
    return ProcessEstimate("PPM server", service.size, memory)


def served_bytes(planned: PlannedRound, dtype: str, *, stored: str) -> int:
    """Return the bytes of a served weight. auto: the format in which it is ``stored`` on a GPU, float32 on a CPU."""
    on_gpu = planned.spec.cluster.resources.policy.gpus > 0
    chosen = dtype if dtype != "auto" else stored if on_gpu else "float32"
    return BYTES.get(chosen, 4)


def stored_format(planned: PlannedRound, stage: Stage) -> str:
    """Return the number format of the checkpoint of a training stage: ``storedDtype``, or what its auto means."""
    is_sft = stage is Stage.TRAIN_POLICY
    spec = planned.spec.train_policy if is_sft else planned.spec.train_ppm
    if spec.stored_dtype != "auto":
        return spec.stored_dtype
    resources = planned.spec.cluster.resources
    on_gpu = (resources.train_policy if is_sft else resources.train_ppm).gpus > 0
    return "bfloat16" if on_gpu or spec.precision == "bfloat16" else "float32"


def training_process(planned: PlannedRound, stage: Stage) -> ProcessEstimate:
    """Return a process of a training stage. A pair is two sequences."""
    is_sft = stage is Stage.TRAIN_POLICY
    spec = planned.spec.train_policy if is_sft else planned.spec.train_ppm
    count = spec.nodes * spec.processes_per_node
    rows = spec.micro_batch_size or max(1, spec.batch_size // count)

    def memory(length: float) -> Memory:
        return training(
            planned.model,
            sequences=rows if is_sft else 2 * rows,
            length=length,
            mixed=spec.precision == "bfloat16",
            shards=count if spec.fsdp else 1,
            logits=is_sft,
            checkpointing=spec.gradient_checkpointing,
        )

    mean = min(planned.sequence_tokens(stage), spec.max_length)
    return ProcessEstimate(f"{stage} process", count, memory(mean), memory(spec.max_length))
