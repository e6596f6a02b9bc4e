"""Which row of the cache each partial candidate lives in after a token: a pure plan of the fewest copies.

Candidates of one prefix that have drawn the same tokens so far are the same text, so they share one row until they
differ. After each token the rows split into groups (same row, same token); this module says where each group goes.
It refuses to move anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_VOCABULARY: Final = 2**32
"""More than any token id: (row, token) as one sortable number."""


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


def place(row: Ints, token: Ints) -> Placement:
    """Group candidates by (row, last token) and give each group a row.

    ``row`` and ``token`` are ``(candidates,)``. Groups keep their row where they can; a row without candidates is free.
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
