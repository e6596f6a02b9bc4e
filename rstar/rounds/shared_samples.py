"""Methods of an evaluation that choose among the same samples. They are sampled once, and each chooses for itself.

By the same seed, majority and best_of_n with the same settings draw the same samples; only the choice differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from rstar.config import SearchConfig
from rstar.record import NodeRecord, SearchRecord
from rstar.search.choice import Same, chosen_by

Method = TypeVar("Method", bound=SearchConfig)


def sampled_by(method: Method, methods: Sequence[Method]) -> Method:
    """Return the one of ``methods`` whose samples ``method`` chooses from: itself where it shares them with none before it.

    A method whose samples the PPM scores comes first, because the others need no scores.
    """
    if method.method not in {"majority", "best_of_n"}:
        return method
    alike = [other for other in methods if _samples(other) == _samples(method)]
    return next((other for other in alike if other.guidance == "ppm"), alike[0])


def _samples(method: SearchConfig) -> tuple[bool, dict[str, object]]:
    chooses = method.method in {"majority", "best_of_n"}
    return chooses, method.model_dump(exclude={"name", "method", "guidance", "vote_top"})


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
