"""Several data sets as one list of problems with unique ids.

A row's own id, such as 7 in AIME and in AMC, is unique in its data set only. So in a list of several data sets it gets the
name of its set in front: ``aime24/7``. Ids made from the content stay as they are: the same problem in two sets is one
problem. A single data set keeps all its ids.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from rstar.problem import Problem
from rstar.readers.collect import Reading

_SUFFIX: Final = re.compile(r"\.(jsonl|json|ndjson|csv|tsv|parquet|xml|gz)$", re.IGNORECASE)

log = logging.getLogger(__name__)


def data_set_names(uris: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Return a name for each data set: the shortest end of its path by which all differ, with the split if it must.

    >>> data_set_names(["data/aime24/test.jsonl", "data/amc23/test.jsonl"], ["train", "train"])
    ['aime24/test', 'amc23/test']

    Raises ``ValueError`` for the same data set twice.
    """
    paths = [PurePosixPath(_plain(uri)).parts for uri in uris]
    for length in range(1, max(map(len, paths), default=0) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    names = [f"{'/'.join(parts)}:{split}" for parts, split in zip(paths, splits, strict=True)]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"the data set {name} is given {count} times: remove it, or give each a name of its own")
    return names


def merged(names: Sequence[str], readings: Sequence[Reading], limit: int | None = None) -> Reading:
    """Return the first ``limit`` problems of all sets in order (None: all), each problem once."""
    if len(readings) == 1:
        (only,) = readings
        return replace(only, problems=only.problems[:limit])
    problems: dict[str, Problem] = {}
    data_sets: dict[str, str] = {}
    explicit: set[str] = set()
    for name, reading in zip(names, readings, strict=True):
        for problem in reading.problems:
            own = problem.id in reading.explicit
            key = f"{name}/{problem.id}" if own else problem.id
            problems.setdefault(key, replace(problem, id=key))
            data_sets.setdefault(key, name)
            explicit |= {key} if own else set()
    repeated = sum(len(reading.problems) for reading in readings) - len(problems)
    if repeated:
        log.warning("%s: dropped %d problems that another of the data sets has too", ", ".join(names), repeated)
    return Reading(
        list(problems.values())[:limit],
        frozenset(explicit),
        sum(reading.bad_rows for reading in readings),
        data_sets=data_sets,
    )


def _plain(uri: str) -> str:
    """Return the path of a URI without its scheme, its revision on the hub and the suffixes of data files."""
    path = re.sub(r"^hf:([^@]*)@.*", r"\1", uri)
    path = re.sub(r"^(store|hf):", "", path).strip("/")
    while (shorter := _SUFFIX.sub("", path)) != path:
        path = shorter
    return path
