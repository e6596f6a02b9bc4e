"""The shards that a searching stage has stored.

A shard in the store is complete, because writes are atomic: a stored shard is never searched again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.manifest import Output, describe_file
from rstar.rounds.stage import StageRun
from rstar.store.tables import read_trees, write_trees
from rstar_jobs.searches import Shard

SUFFIX = ".parquet"
FOLDER = "trees"


class StoredShards:
    """The trees tables ``trees/<shard>.parquet`` of a stage."""

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage
        prefix = stage.key(f"{FOLDER}/")
        keys = stage.store.list(prefix)
        self._names = {key.removeprefix(prefix).removesuffix(SUFFIX) for key in keys if key.endswith(SUFFIX)}

    def split(self, shards: Iterable[Shard]) -> tuple[list[Shard], list[Shard]]:
        """Return the shards that earlier attempts stored, and those that are missing."""
        stored: list[Shard] = []
        missing: list[Shard] = []
        for shard in shards:
            (stored if shard.name in self._names else missing).append(shard)
        return stored, missing

    def put(self, shard: Shard, records: Sequence[SearchRecord]) -> Output:
        """Store a finished shard and return its entry for the manifest."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"shard{SUFFIX}"
            write_trees(path, zip(shard.problems, records, strict=True))
            return self._stage.upload(path, _path(shard))

    def read(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Output, list[tuple[Problem, SearchRecord]]]]:
        """Yield each stored shard with its entry for the manifest and its rows, one at a time."""
        for shard in shards:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"shard{SUFFIX}"
                self._stage.store.download(self._stage.key(_path(shard)), path)
                yield shard, describe_file(path, _path(shard)), read_trees(path)


def _path(shard: Shard) -> str:
    return f"{FOLDER}/{shard.name}{SUFFIX}"
