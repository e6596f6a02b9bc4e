"""One problem, keyed by a stable id and never by its text.

Two problems may have the same text, and a corrected text is still the same problem: so caches, shards, seeds and
splits use ``Problem.id`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its reference answer and where it came from.

    ``answer`` is the reference for the verifier (``None``: unknown, as at inference). ``data`` is for verifiers that
    need more than the answer, e.g. ``{"nums": [...], "target": 24}``. Selection drops a ``synthetic`` problem when
    fewer than half of its trajectories are correct (paper, section 3.3).
    """

    id: str
    question: str
    answer: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
