"""What a round leaves behind, so that two histories of it can be compared: children by kind, the status, its pods.

Times are left out, and the round's name stands as ROUND, so that rounds side by side in one namespace compare. Pods are
counted by the player that is asked once for each that ever was. The module compares; it drives nothing.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rstar_operator.cache import CHILDREN
from rstar_testbed.kubelet import Behaviour, ChooseBehaviour, Pod

from rstar.cluster.api import PODS, ROUNDS, Cluster
from rstar.cluster.names import JOB_NAME, ROUND

NAME = "ROUND"
_COMPARED = ("children", "status", "pods")
_TIMES = {"lastTransitionTime", "startedAt", "finishedAt"}


@dataclass(frozen=True)
class Ending:
    """``children``: names by kind; ``status``: as it is stored; ``pods``: how many each attempt ever had."""

    children: dict[str, list[str]]
    status: dict[str, Any]
    pods: dict[str, int]

    def differences(self, other: Ending) -> list[str]:
        """Return one line for everything that is not as in ``other``; [] when all is the same."""
        pairs = [(f"{what}.{key}", *found) for what in _COMPARED for key, found in _pairs(self, other, what)]
        return [f"{key}: {mine!r} instead of {theirs!r}" for key, mine, theirs in pairs if mine != theirs]


def _pairs(mine: Ending, theirs: Ending, what: str) -> list[tuple[str, tuple[Any, Any]]]:
    ours, others = getattr(mine, what), getattr(theirs, what)
    return [(key, (ours.get(key), others.get(key))) for key in sorted(ours.keys() | others.keys())]


class PodBook:
    """A player that remembers every pod that an attempt ever had."""

    def __init__(self, player: ChooseBehaviour) -> None:
        self._player = player
        self._uids: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def __call__(self, pod: Pod) -> Behaviour:
        """Note the pod, and play it."""
        labels = pod["metadata"]["labels"]
        if JOB_NAME in labels:
            self._uids[labels[ROUND]][labels[JOB_NAME]].add(pod["metadata"]["uid"])
        return self._player(pod)

    def of(self, round_name: str) -> dict[str, int]:
        """Return the number of pods that each attempt of a round ever had."""
        return {anonymous(job, round_name): len(uids) for job, uids in sorted(self._uids[round_name].items())}


def ending(cluster: Cluster, namespace: str, name: str, book: PodBook) -> Ending:
    """Return what is there of a round now."""
    children: dict[str, list[str]] = {}
    for kind in CHILDREN:
        found = cluster.list(kind, namespace, f"{ROUND}={name}")
        # Pods of services that have been released are on their way out, and nobody's any more.
        names = [b["metadata"]["name"] for b in found if kind != PODS or JOB_NAME in b["metadata"]["labels"]]
        if names:
            children[kind.plural] = sorted(anonymous(each, name) for each in names)
    status = (cluster.get(ROUNDS, namespace, name) or {}).get("status", {})
    return Ending(children, _timeless(json.loads(anonymous(json.dumps(status), name))), book.of(name))


def settled(cluster: Cluster, namespace: str, name: str, book: PodBook, like: Ending, seconds: float = 60) -> list[str]:
    """Return what differs from ``like`` once nothing does, or ``seconds`` have passed: clearing away takes its time."""
    until = time.monotonic() + seconds
    while (lines := ending(cluster, namespace, name, book).differences(like)) and time.monotonic() < until:
        time.sleep(0.5)
    return lines


def anonymous(text: str, name: str) -> str:
    """Return a text with the round's name taken out, to compare it with another round's."""
    return text.replace(name, NAME)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
