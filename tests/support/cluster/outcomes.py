"""The outcome of a round, to compare it with another round's: its children by kind, its status, its number of pods.

Times are left out and the round's name is replaced by ROUND, so that rounds of one namespace can be compared. Pods are
counted where the kubelet asks for their behaviour, once for each.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rstar_operator.cache import CHILDREN
from rstar_testbed.kubelet import Behaviour, ChooseBehaviour, Pod

from rstar.cluster.api import PODS, PYTORCH_JOBS, ROUNDS, TRAINING_RUNTIMES, Cluster, Json, Kind
from rstar.cluster.names import ATTEMPT, ROUND, STAGE, attempt_name
from rstar.rounds.observed import Stage

NAME_PLACEHOLDER = "ROUND"
_COMPARED = ("children", "status", "pods")
_TIMES = {"lastTransitionTime", "startedAt", "finishedAt"}


@dataclass(frozen=True)
class RoundOutcome:
    """``children``: names by kind; ``status``: as stored; ``pods``: the number of pods that each attempt has had."""

    children: dict[str, list[str]]
    status: dict[str, Any]
    pods: dict[str, int]

    def differences(self, other: RoundOutcome) -> list[str]:
        """Return one line for each difference from ``other``."""
        pairs = [(f"{what}.{key}", *found) for what in _COMPARED for key, found in _pairs(self, other, what)]
        return [f"{key}: {mine!r} instead of {theirs!r}" for key, mine, theirs in pairs if mine != theirs]


def _pairs(mine: RoundOutcome, theirs: RoundOutcome, what: str) -> list[tuple[str, tuple[Any, Any]]]:
    ours, others = getattr(mine, what), getattr(theirs, what)
    return [(key, (ours.get(key), others.get(key))) for key in sorted(ours.keys() | others.keys())]


class PodCounter:
    """Chooses the behaviour of pods, and counts the pods of each attempt. ``training``: the kinds of the backend."""

    def __init__(self, choose: ChooseBehaviour, training: tuple[Kind, ...] = (PYTORCH_JOBS,)) -> None:
        self.training = training
        self._choose = choose
        self._uids: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def __call__(self, pod: Pod) -> Behaviour:
        """Count the pod, and return its behaviour."""
        labels = pod["metadata"]["labels"]
        if STAGE in labels:
            name = attempt_name(labels[ROUND], Stage(labels[STAGE]), int(labels[ATTEMPT]))
            self._uids[labels[ROUND]][name].add(pod["metadata"]["uid"])
        return self._choose(pod)

    def pods_of(self, round_name: str) -> dict[str, int]:
        """Return the number of pods that each attempt of a round has had."""
        return {without_name(job, round_name): len(uids) for job, uids in sorted(self._uids[round_name].items())}


def outcome_of(cluster: Cluster, namespace: str, name: str, counter: PodCounter) -> RoundOutcome:
    """Return the outcome of a round as it is now."""
    children: dict[str, list[str]] = {}
    for kind in (*counter.training, *CHILDREN):
        found = cluster.list(kind, namespace, f"{ROUND}={name}")
        # Pods of deleted services are still ending; they are not counted.
        names = [_name(kind, b) for b in found if kind != PODS or STAGE in b["metadata"]["labels"]]
        if names:
            children[kind.plural] = sorted(without_name(each, name) for each in names)
    status = (cluster.get(ROUNDS, namespace, name) or {}).get("status", {})
    return RoundOutcome(children, _timeless(json.loads(without_name(json.dumps(status), name))), counter.pods_of(name))


def _name(kind: Kind, body: Json) -> str:
    """Return an object's name, without the part that differs between equal rounds: random, or a digest with the uid."""
    name: str = body["metadata"]["name"]
    return name.rpartition("-")[0] if kind == TRAINING_RUNTIMES or "generateName" in body["metadata"] else name


def differences_once_settled(
    cluster: Cluster, namespace: str, name: str, counter: PodCounter, expected: RoundOutcome, seconds: float = 300
) -> list[str]:
    """Return the differences from ``expected``, waiting up to ``seconds`` for there to be none: deletions take time."""
    deadline = time.monotonic() + seconds
    while (
        lines := outcome_of(cluster, namespace, name, counter).differences(expected)
    ) and time.monotonic() < deadline:
        time.sleep(0.5)
    return lines


def without_name(text: str, name: str) -> str:
    """Replace the round's name in a text, to compare it with another round's."""
    return text.replace(name, NAME_PLACEHOLDER)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
