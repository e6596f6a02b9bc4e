"""The trees of a store, read through the manifests of its stages, shard by shard.

The store may be written meanwhile: an unfinished stage gives the shards that it has. A shard that cannot be read, or that
differs from its manifest, is left out and named in ``TreeSource.faults``.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.report.data import ROLLOUT, Fault
from rstar.report.stages import StageFolder, read_stages
from rstar.report.trees import mark
from rstar.rounds.observed import Stage
from rstar.store.store import Store, StoreError
from rstar.store.tables import read_trees

_RESULTS: Final = "results.parquet"


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
        self._shards = [shard for of_round in stages.values() for folder in of_round.values() for shard in _of(folder)]
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
            with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
                file.write(data)
                file.flush()
                rows = read_trees(Path(file.name))
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
            data = self._content(folder, _RESULTS) if _RESULTS in folder.files(_RESULTS) else None
            if data is not None:
                try:
                    table = pq.read_table(io.BytesIO(data), columns=["method", "problem_id", "correct"])
                    found = {(row["method"], row["problem_id"]): row["correct"] for row in table.to_pylist()}
                except (ValueError, KeyError, OSError) as error:
                    self._fault(folder, _RESULTS, error)
            self._verdicts[folder.prefix] = found
        return self._verdicts[folder.prefix]

    def _content(self, folder: StageFolder, path: str) -> bytes | None:
        try:
            data = self._store.read(f"{folder.prefix}/{path}")
            expected = folder.sha256(path)
            if expected is not None and hashlib.sha256(data).hexdigest() != expected:
                raise ValueError("its content differs from its manifest: was it changed or damaged?")
            return data
        except KeyError:
            self._fault(folder, path, "it is not in the store")
        except (ValueError, OSError, StoreError) as error:
            self._fault(folder, path, error)
        return None

    def _fault(self, folder: StageFolder, path: str, reason: object) -> None:
        fault = Fault(f"{folder.prefix}/{path}", " ".join(str(reason).split()))
        if fault not in self.faults:
            self.faults.append(fault)


def _of(folder: StageFolder) -> list[_Shard]:
    """Return the shards with trees of a stage."""
    paths = folder.files(".parquet", below="trees/")
    if folder.stage is Stage.ROLLOUT:
        return [_Shard(folder, ROLLOUT, path) for path in paths]
    return [_Shard(folder, path.removeprefix("trees/").rpartition("/")[0], path) for path in paths]
