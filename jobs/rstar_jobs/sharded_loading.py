"""Loads a model that is sharded: the leader reads the weights, and the other processes only make room for them.

Every process used to read all weights in float32 before the trainer sharded them: eight processes of a node needed eight
times 30 GB for a 7B model. The trainer broadcasts the leader's weights one by one, and each process keeps its shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState, init_empty_weights
from torch import nn
from transformers import AutoConfig

from rstar.rounds.training_spec import TrainingSpec
from rstar_jobs.processes import is_leader, process_count


def is_sharded(spec: TrainingSpec) -> bool:
    """Return whether the training shards its model. One process has nothing to shard, and accelerate shards on no CPU.

    The first call starts the process group, as the trainer would.
    """
    if not spec.fsdp or process_count() == 1:
        return False
    return PartialState(cpu=not torch.cuda.is_available()).distributed_type is not DistributedType.MULTI_CPU


def loader(auto_class: Any, spec: TrainingSpec) -> Any:
    """Return ``auto_class``, or in the processes that get their weights from the leader its likeness without weights."""
    return auto_class if is_leader() or not is_sharded(spec) else _WithoutWeights(auto_class)


@dataclass(frozen=True, slots=True)
class _WithoutWeights:
    auto_class: Any

    def from_pretrained(
        self, place: str | Path, *, dtype: Any, attn_implementation: str | None = None, **settings: Any
    ) -> Any:
        """Return the model of a folder or a name with weights of no value, whose pages are never touched.

        On the meta device they would take no address space either, but accelerate knows parameters by their address. The
        buffers, such as the frequencies of rotary embeddings, are computed: the leader does not broadcast them.
        """
        config = AutoConfig.from_pretrained(place, **settings)
        chosen = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        with init_empty_weights():
            model = self.auto_class.from_config(config, dtype=dtype, **chosen)
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(torch.empty_like(weight, device="cpu")))
        model.tie_weights()
        return model
