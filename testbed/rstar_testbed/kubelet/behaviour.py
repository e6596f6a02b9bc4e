"""The behaviour of a pod on the test kubelet.

The kubelet calls a ``ChooseBehaviour`` once for every pod, with the pod as the API has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Pod = dict[str, Any]


@dataclass(frozen=True)
class Pending:
    """The pod is never bound. ``message`` is the scheduler's, as in "0/3 nodes are available: ..."."""

    message: str


@dataclass(frozen=True)
class Waiting:
    """The pod is bound and its containers cannot start: ``reason`` as in ImagePullBackOff."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Run:
    """The containers run for ``seconds`` and end with ``code``; with ``seconds=None`` they run until the pod is deleted.

    ``message`` is the termination message, ``reason`` the container's reason (such as OOMKilled) where it does not follow
    from the exit code, ``ready`` whether the pod becomes Ready while it runs.
    """

    seconds: float | None = None
    code: int = 0
    message: str = ""
    reason: str = ""
    ready: bool = True


Behaviour = Pending | Waiting | Run
ChooseBehaviour = Callable[[Pod], Behaviour]
