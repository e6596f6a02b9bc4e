"""The row of the cache for each unfinished candidate after a token: a pure plan with the fewest copies.

Candidates of one prefix that have drawn the same tokens are the same text, so they share one row until they differ.
After each token a row's candidates split into groups with the same token; the plan gives each group a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_VOCABULARY: Final = 2**32
"""More than any token id, so that (row, token) is one sortable number."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The rows after a token, packed densely from 0.

    ``row`` is each candidate's new row, ``(candidates,)``; ``tokens`` each new row's last token, ``(rows,)``. Row
    ``destinations[i]`` becomes a copy of old row ``sources[i]``; no destination is a source, all others stay in place.
    """

    row: Ints
    tokens: Ints
    sources: Ints
    destinations: Ints


def assign_rows(row: Ints, token: Ints) -> Placement:
    """Group candidates by (row, last token) and give each group a row.

    ``row`` and ``token`` are ``(candidates,)``. The first group of a row keeps it if possible; a row without candidates
    is free.
    """
    keys, group = np.unique(row * _VOCABULARY + token, return_inverse=True)
    source, last = np.divmod(keys, _VOCABULARY)
    count = len(keys)
    stays = np.ones(count, dtype=bool)
    stays[1:] = source[1:] != source[:-1]  # the first group of a row keeps it
    stays &= source < count
    free = np.ones(count, dtype=bool)
    free[source[stays]] = False
    destination = source.copy()
    destination[~stays] = np.flatnonzero(free)
    tokens = np.empty(count, dtype=np.int64)
    tokens[destination] = last
    return Placement(destination[group], tokens, source[~stays], destination[~stays])
