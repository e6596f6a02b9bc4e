"""What a pod does on the test kubelet: a script, or its real command.

A player is asked once for every pod, with the pod as the API has it, and answers with one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Pod = dict[str, Any]


@dataclass(frozen=True)
class Pending:
    """The pod is never bound: ``message`` is what a scheduler would say of it, as in "0/3 nodes are available: ..."."""

    message: str


@dataclass(frozen=True)
class Run:
    """The containers run for ``seconds`` and end with ``code``; with ``seconds=None`` they run until the pod is deleted.

    ``message`` is the termination message, ``reason`` the container's reason (such as OOMKilled) where the exit code alone
    does not say it, ``ready`` whether the pod becomes Ready while it runs.
    """

    seconds: float | None = None
    code: int = 0
    message: str = ""
    reason: str = ""
    ready: bool = True


@dataclass(frozen=True)
class Waiting:
    """The pod is bound and its containers cannot start: ``reason`` as in ImagePullBackOff."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Real:
    """The containers' commands run for real, as processes of this machine. ``environment`` is added to theirs."""

    environment: Mapping[str, str] = field(default_factory=dict)


Play = Pending | Waiting | Run | Real
Player = Callable[[Pod], Play]


def real(pod: Pod) -> Play:
    """Run every pod for real."""
    return Real()
