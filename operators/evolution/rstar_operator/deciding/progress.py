"""What the running stage last said of its progress, from the ConfigMap that it reports to. Pure."""

from __future__ import annotations

import json
from typing import Any

from rstar.cluster.names import PROGRESS_KEY
from rstar.rounds.observed import STAGES
from rstar_operator.observing.attempts import key_of
from rstar_operator.world import World, deleting

_BYTES = 2_000


def reported_progress(world: World) -> dict[str, Any]:
    """Return the figures of the youngest attempt; {} when it has said nothing that can be read.

    What an earlier one has told says nothing of it.
    """
    keys = [key_of(job) for job in world.jobs if not deleting(job)]
    youngest = max(keys, key=lambda key: (STAGES.index(key[0]), key[1]), default=None)
    told = {key_of(body): body for body in world.progress}
    if youngest is None or youngest not in told:
        return {}
    text = told[youngest].get("data", {}).get(PROGRESS_KEY, "{}")
    try:
        found = json.loads(text) if len(text) <= _BYTES else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
