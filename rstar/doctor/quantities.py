"""What the pods of a round need at once, and what a namespace's quota leaves. Pure but for Kubernetes' own parser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from rstar.rounds.cluster_spec import PodResources
from rstar.rounds.guidance import FIRST_GUIDED_ROUND
from rstar.rounds.spec import EvolutionRoundSpec

Amounts = Mapping[str, Decimal]

_SAME: Final = {"cpu": "requests.cpu", "memory": "requests.memory"}
"""Other names of a quota's keys."""


def quantity(text: str) -> Decimal:
    """Return the number of a quantity such as ``500m`` or ``2Gi``. Raises ``ValueError``."""
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(text))


def needed(spec: EvolutionRoundSpec) -> dict[str, Decimal]:
    """Return the most that a round's pods request at once: its servers with a search, or a training."""
    resources, services = spec.cluster.resources, spec.services
    servers = [(resources.policy, services.policy.size), (resources.search, services.search.size)]
    guided = spec.preference_model.use != "never" and spec.round >= FIRST_GUIDED_ROUND
    if guided or spec.guided_methods or spec.preference_model.model is not None:
        servers.append((resources.ppm, services.ppm.size))
    phases = [
        _sum([*servers, (resources.rollout, 1)]),
        _sum([*servers, (resources.evaluate, 1)]),
        _sum([(resources.select, 1)]),
        _sum([(resources.train_policy, spec.train_policy.nodes)]),
        _sum([(resources.train_ppm, spec.train_ppm.nodes)]),
    ]
    return {
        key: max(phase.get(key, Decimal(0)) for phase in phases) for key in {key for phase in phases for key in phase}
    }


def _sum(pods: Iterable[tuple[PodResources, int]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for resources, count in pods:
        most = resources.most_cpu
        each: dict[str, Decimal | int] = {
            "pods": 1,
            "requests.cpu": quantity(resources.cpu),
            "requests.memory": quantity(resources.memory),
            "limits.memory": quantity(resources.memory),
            **({"limits.cpu": quantity(most)} if most is not None else {}),
            **({f"requests.{resources.gpu_resource}": resources.gpus} if resources.gpus else {}),
        }
        for key, value in each.items():
            total[key] = total.get(key, Decimal(0)) + Decimal(value) * count
    return total


def lacking(hard: Mapping[str, str], used: Mapping[str, str], needs: Amounts) -> dict[str, tuple[Decimal, Decimal]]:
    """Return (needed, left) by the key of a quota that leaves less than ``needs``."""
    found = {}
    for key, most in hard.items():
        need = needs.get(_SAME.get(key, key))
        left = quantity(most) - quantity(used.get(key, "0"))
        if need is not None and need > left:
            found[key] = (need, left)
    return found
