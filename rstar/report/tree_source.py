"""The trees of a store, read through the manifests of its stages, shard by shard.

The store may be written meanwhile: an unfinished stage gives the shards that it has. A shard that cannot be read, or that
differs from its manifest, is left out and named in ``TreeSource.faults``.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.report.data import ROLLOUT, Fault
from rstar.report.shards import RESULTS, read_checked, tree_shards, trees_in
from rstar.report.stages import StageFolder, read_stages
from rstar.report.trees import mark
from rstar.store.store import Store, StoreError


@dataclass(frozen=True, slots=True)
class StoredTree:
    """One row of a trees table. ``method``: ``rollout`` or an evaluation method; ``right``: None without a verdict."""

    round: str
    method: str
    problem: Problem
    record: SearchRecord
    right: bool | None


@dataclass(frozen=True, slots=True)
class _Shard:
    folder: StageFolder
    method: str
    path: str


class TreeSource:
    """The trees of all rounds of a store. Raises ``StoreError`` when the store cannot be listed."""

    def __init__(self, store: Store) -> None:
        self.faults: list[Fault] = []
        self._store = store
        stages = read_stages(store, self.faults)
        self.rounds = list(stages)
        folders = [folder for of_round in stages.values() for folder in of_round.values()]
        self._shards = [_Shard(folder, *shard) for folder in folders for shard in tree_shards(folder)]
        self._verdicts: dict[str, dict[tuple[str, str], bool]] = {}

    def methods(self, round_name: str | None = None) -> list[str]:
        """Return the methods with trees, of one round or of all."""
        return list(dict.fromkeys(s.method for s in self._shards if round_name in (None, s.folder.round)))

    def trees(
        self,
        rounds: Collection[str] | None = None,
        methods: Collection[str] | None = None,
        *,
        latest_first: bool = False,
    ) -> Iterator[StoredTree]:
        """Yield the trees of some rounds and methods (None: of all), in the order of the rounds or the last round first."""
        order = {name: place for place, name in enumerate(self.rounds)}
        shards = sorted(self._shards, key=lambda shard: order[shard.folder.round], reverse=latest_first)
        for shard in shards:
            if (rounds is None or shard.folder.round in rounds) and (methods is None or shard.method in methods):
                yield from self._read(shard)

    def _read(self, shard: _Shard) -> Iterator[StoredTree]:
        data = self._content(shard.folder, shard.path)
        if data is None:
            return
        try:
            rows = trees_in(data)
        except (ValueError, TypeError, OSError) as error:
            self._fault(shard.folder, shard.path, error)
            return
        verdicts = self._results(shard.folder) if shard.method != ROLLOUT else {}
        for problem, record in rows:
            right = mark(record, verdicts.get((shard.method, problem.id)))
            yield StoredTree(shard.folder.round, shard.method, problem, record, right)

    def _results(self, folder: StageFolder) -> dict[tuple[str, str], bool]:
        """Return the verdicts of an evaluation by method and problem; none while it is unfinished."""
        if folder.prefix not in self._verdicts:
            found: dict[tuple[str, str], bool] = {}
            data = self._content(folder, RESULTS) if RESULTS in folder.files(RESULTS) else None
            if data is not None:
                try:
                    table = pq.read_table(io.BytesIO(data), columns=["method", "problem_id", "correct"])
                    found = {(row["method"], row["problem_id"]): row["correct"] for row in table.to_pylist()}
                except (ValueError, KeyError, OSError) as error:
                    self._fault(folder, RESULTS, error)
            self._verdicts[folder.prefix] = found
        return self._verdicts[folder.prefix]

    def _content(self, folder: StageFolder, path: str) -> bytes | None:
        try:
            return read_checked(self._store, folder, path)
        except KeyError:
            self._fault(folder, path, "it is not in the store")
        except (ValueError, OSError, StoreError) as error:
            self._fault(folder, path, error)
        return None

    def _fault(self, folder: StageFolder, path: str, reason: object) -> None:
        fault = Fault(f"{folder.prefix}/{path}", " ".join(str(reason).split()))
        if fault not in self.faults:
            self.faults.append(fault)
