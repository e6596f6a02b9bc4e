"""The processes of a round and the memory of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.rounds.estimate.memory import Memory, serving, training
from rstar.rounds.estimate.model_size import BYTES
from rstar.rounds.estimate.planned import PlannedRound
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
    found = [policy_server(planned)]
    if planned.guided or any(method.guidance == "ppm" for method in spec.evaluate.methods):
        found.append(ppm_server(planned))
    found.append(training_process(planned, Stage.TRAIN_POLICY))
    if spec.trains_ppm:
        found.append(training_process(planned, Stage.TRAIN_PPM))
    return tuple(found)


def policy_server(planned: PlannedRound) -> ProcessEstimate:
    """Return a policy server that generates for its share of all problems which are searched at once."""
    spec, service, texts = planned.spec, planned.spec.services.policy, planned.rollout_texts
    candidates = spec.rollout.concurrency * spec.search.trajectories * spec.search.candidates / service.size
    # Round 1 serves the base model.
    stored = planned.model.dtype if spec.round == 1 else stored_format(planned, Stage.TRAIN_POLICY)
    memory = serving(
        planned.model,
        number_bytes=served_bytes(planned, service.dtype, stored=stored),
        sequences=min(service.slots or ROWS, candidates),
        length=texts.prompt_tokens + texts.steps * texts.step_tokens,
        devices=service.tensor_parallel,
    )
    return ProcessEstimate("policy server", service.size, memory)


def ppm_server(planned: PlannedRound) -> ProcessEstimate:
    """Return a PPM server."""
    service = planned.spec.services.ppm
    number_bytes = served_bytes(planned, service.dtype, stored=stored_format(planned, Stage.TRAIN_PPM))
    memory = serving(
        planned.model,
        number_bytes=number_bytes,
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
