"""What is asked: one problem, keyed by a stable id and never by its text.

Two problems may share a text, and a text may be mended without becoming another problem;
so caches, shards, seeds and splits use ``Problem.id`` alone. This module refuses to read
files (see ``readers``) and to judge answers (see ``verify``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its reference answer and where it came from.

    ``answer`` is what the verifier compares with (``None``: unknown, as at inference).
    ``data`` carries what a verifier needs beyond the answer, e.g. ``{"nums": [...], "target": 24}``.
    ``synthetic`` problems are dropped by selection when fewer than half of their trajectories
    are right (paper, section 3.3).
    """

    id: str
    question: str
    answer: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
