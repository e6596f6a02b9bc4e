"""The shards of a searching stage in the store: which are there, and what they hold.

A shard in the store is whole (writes are atomic), so being there is being done. The module refuses to search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.manifest import Output, describe_file
from rstar.rounds.stage import StageRun
from rstar.store.tables import read_trees, write_trees
from rstar_jobs.searches import Shard

SUFFIX = ".parquet"


class StoredShards:
    """The trees tables ``<folder>/<shard>.parquet`` of a stage."""

    def __init__(self, stage: StageRun, folder: str) -> None:
        self._stage = stage
        self._folder = folder
        prefix = stage.key(f"{folder}/")
        keys = stage.store.list(prefix)
        self._there = {key.removeprefix(prefix).removesuffix(SUFFIX) for key in keys if key.endswith(SUFFIX)}

    def __contains__(self, name: str) -> bool:
        return name in self._there

    def put(self, shard: Shard, records: list[SearchRecord]) -> None:
        """Store a finished shard."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"shard{SUFFIX}"
            write_trees(path, zip(shard.problems, records, strict=True))
            self._stage.upload(path, self._path(shard.name))
        self._there.add(shard.name)

    def read(self, names: Sequence[str]) -> Iterator[tuple[Output, list[tuple[Problem, SearchRecord]]]]:
        """Yield the entry for the manifest and the rows of each shard, one at a time."""
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"shard{SUFFIX}"
                self._stage.store.download(self._stage.key(self._path(name)), path)
                yield describe_file(path, self._path(name)), read_trees(path)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}{SUFFIX}"
