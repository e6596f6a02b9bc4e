"""Methods of an evaluation that choose among the same samples. They are sampled once, and each chooses for itself.

By the same seed, majority and best_of_n with the same settings draw the same samples; only the choice differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

from rstar.config import SearchConfig
from rstar.record import NodeRecord, SearchRecord
from rstar.search.choice import Same, chosen_by

Method = TypeVar("Method", bound=SearchConfig)

_SAMPLING: Final = {"majority", "best_of_n"}


def sampled_by(method: Method, methods: Sequence[Method]) -> Method:
    """Return the one of ``methods`` that draws the samples from which ``method`` chooses; it may be ``method`` itself.

    Of those with the same samples, the first that the PPM guides draws them, because the others need no scores.
    """
    if method.method not in _SAMPLING:
        return method
    alike = [other for other in methods if other.method in _SAMPLING and _drawn(other) == _drawn(method)]
    return next((other for other in alike if other.guidance == "ppm"), alike[0])


def _drawn(method: SearchConfig) -> dict[str, object]:
    """Return the settings on which the samples depend."""
    return method.model_dump(exclude={"name", "method", "guidance", "vote_top"})


async def rechosen(record: SearchRecord, method: SearchConfig, same: Same) -> SearchRecord:
    """Return the record that ``method`` would have made, given that of the method that drew the samples.

    It has the cost of its own search: the samples' tokens, and the PPM's scores only if it uses them.
    """
    if method.guidance != "ppm":
        nodes = tuple(map(_unscored, record.nodes))
        record = replace(record, nodes=nodes, usage=replace(record.usage, scored=0), ppm_digest="")
    return await chosen_by(record, method, same)


def _unscored(node: NodeRecord) -> NodeRecord:
    """Without a PPM and a verifier, the reward of an answer is 0; failed steps keep theirs."""
    return replace(node, score=None, value=0.0 if node.valid else node.value)
