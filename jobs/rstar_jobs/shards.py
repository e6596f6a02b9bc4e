"""What a searching stage has stored: finished shards, and the finished problems of shards that are being searched.

A shard below ``trees/`` is complete, because writes are atomic: it is never searched again. A table below ``partial/``
holds some problems of a shard, and is deleted when the shard is complete.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rounds.manifest import Output, describe_file
from rstar.rounds.stage import StageRun
from rstar.store.store import StoreError
from rstar.store.tables import read_trees, write_trees
from rstar_jobs.search_work import Shard

SUFFIX = ".parquet"
FOLDER = "trees"
PARTIAL = "partial"


class StoredShards:
    """The trees tables ``trees/<shard>.parquet`` and ``partial/<shard>.parquet`` of a stage."""

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage
        self._names = self._listed(FOLDER)
        self._partial = self._listed(PARTIAL)

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
            output = self._stage.upload(path, _path(shard))
        if shard.name in self._partial:
            try:
                self._stage.store.delete(self._stage.key(_path(shard, PARTIAL)))
                self._partial.discard(shard.name)
            except StoreError as error:  # it is not read again
                structlog.get_logger().warning("partial shard not deleted", shard=shard.name, error=str(error))
        return output

    def put_partial(self, shard: Shard, records: Mapping[int, SearchRecord]) -> None:
        """Store the records of finished problems, by position in ``shard``, in place of those stored before."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"shard{SUFFIX}"
            write_trees(path, [(shard.problems[i], record) for i, record in sorted(records.items())])
            self._partial.add(shard.name)
            self._stage.upload(path, _path(shard, PARTIAL))

    def read_partial(self, shards: Iterable[Shard]) -> dict[str, dict[int, SearchRecord]]:
        """Return the records that earlier attempts stored of ``shards``, by shard name and position.

        A table that cannot be read is left out, with a warning: its problems are searched again.
        """
        found = {}
        for shard in shards:
            if shard.name not in self._partial:
                continue
            positions = {problem.id: i for i, problem in enumerate(shard.problems)}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"shard{SUFFIX}"
                try:
                    self._stage.store.download(self._stage.key(_path(shard, PARTIAL)), path)
                    rows = read_trees(path)
                except (KeyError, ValueError, OSError) as error:
                    structlog.get_logger().warning("partial shard not read", shard=shard.name, error=str(error))
                    continue
            found[shard.name] = {positions[problem.id]: record for problem, record in rows if problem.id in positions}
        return found

    def _listed(self, folder: str) -> set[str]:
        prefix = self._stage.key(f"{folder}/")
        keys = self._stage.store.list(prefix)
        return {key.removeprefix(prefix).removesuffix(SUFFIX) for key in keys if key.endswith(SUFFIX)}

    def read(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Output, list[tuple[Problem, SearchRecord]]]]:
        """Yield each stored shard with its entry for the manifest and its rows, one at a time."""
        for shard in shards:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"shard{SUFFIX}"
                self._stage.store.download(self._stage.key(_path(shard)), path)
                yield shard, describe_file(path, _path(shard)), read_trees(path)


def _path(shard: Shard, folder: str = FOLDER) -> str:
    return f"{folder}/{shard.name}{SUFFIX}"
