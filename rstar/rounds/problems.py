"""Reads the problems that a spec names, from files, the store and the hub: the same for all commands and stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rstar.readers import Reading, merged, read_file, read_hub_set
from rstar.rounds.problems_spec import ProblemsSpec, Source
from rstar.store.artifacts import fetch
from rstar.store.store import Store


def read_problems_of(spec: ProblemsSpec, store: Store | None, cache: Path, pin: Callable[[str], str] = str) -> Reading:
    """Return the problems of all data sets of ``spec``, in order.

    ``pin`` gives a URI's commit on the hub (``rstar.store.revisions``); without it the current one is read. Raises ``ValueError`` or ``OSError`` with one line per bad row or missing file.
    """
    sources = spec.sources()
    # The names stay those of the spec: a problem's id must not depend on the commit.
    readings = [read_source(replace(source, uri=pin(source.uri)), store, cache) for source in sources]
    return merged([source.name for source in sources], readings, spec.limit)


def read_source(source: Source, store: Store | None, cache: Path) -> Reading:
    """Return the problems of one data set. Raises as ``read_problems_of``."""
    place = fetch(source.uri, store, cache)
    if isinstance(place, Path):
        return read_file(place, source.format, source.limit, source.on_bad_row)
    return read_hub_set(place, source.split, source.format, source.limit, source.on_bad_row)
