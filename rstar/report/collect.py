"""Reads a store into a ``Report``: the only part of this package that does I/O.

A file that cannot be read, or that differs from its manifest, is left out and named in ``Report.faults``. Trees are read
shard by shard and only summed up, but for those of the problems that the page shows.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pyarrow.parquet as pq

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.report.choice import shown_problems
from rstar.report.data import ROLLOUT, Fault, PpmFigures, Report, RoundFigures, Sample, TreeKey
from rstar.report.figures import (
    Calibration,
    TreeTally,
    add_to_calibration,
    difficulty_figures,
    method_figures,
    ppm_figures,
)
from rstar.report.lineage import CHECKPOINT, lineage
from rstar.report.sampling import sample
from rstar.report.shards import PARQUET, RESULTS, read_checked, tree_shards, trees_in
from rstar.report.stage_figures import missing_parts, stage_figures
from rstar.report.stages import StageFolder, previous_round, read_stages
from rstar.rounds.evaluation import ProblemResult
from rstar.rounds.observed import STAGES, Stage
from rstar.rounds.status import RoundStatus
from rstar.selection.difficulty import Difficulty
from rstar.store.store import Store, StoreError

SAMPLES: Final = 4
"""Samples per round, source and verdict."""

Progress = Callable[[int, int], None]
"""Called with the number of files read and of all files to read."""

KeepTree = Callable[[TreeKey, int, Problem, SearchRecord, ProblemResult | None], None]
"""Called with each tree that the page may show: its problem's place in the choice, and its row of an evaluation."""

T = TypeVar("T")


def collect(
    store: Store,
    statuses: Mapping[str, RoundStatus],
    shown: int = 40,
    keep_tree: KeepTree = lambda key, rank, problem, record, result: None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Read all rounds. ``shown``: of how many training and of how many held-out problems trees and samples are kept.

    ``statuses``: of the rounds, where they are known. Raises ``StoreError`` when the store cannot be read at all.
    """
    return _Collection(store, statuses, shown, keep_tree, progress).report()


@dataclass
class _Tables:
    """What the small tables of a round hold: results by method and problem id, and difficulty by problem id."""

    results: dict[str, dict[str, ProblemResult]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)

    def result(self, source: str, problem_id: str) -> ProblemResult | None:
        """Return the row of a problem under a method; None for a training problem."""
        return self.results.get(source, {}).get(problem_id)


class _Chosen:
    """The problems of one kind, training or held out, that are kept in full."""

    def __init__(self, outcomes: Mapping[str, Sequence[bool]], limit: int) -> None:
        self.searched = len(outcomes)
        self._ranks = {problem_id: rank for rank, problem_id in enumerate(shown_problems(outcomes, limit))}
        # Before any verdict is stored, the problems that are searched first are kept.
        self._more = 0 if outcomes else limit

    def rank(self, problem_id: str) -> int | None:
        """Return the place of a problem in the choice; None when it is not kept."""
        if problem_id not in self._ranks and len(self._ranks) < self._more:
            self._ranks[problem_id] = len(self._ranks)
        return self._ranks.get(problem_id)


class _Collection:
    def __init__(
        self, store: Store, statuses: Mapping[str, RoundStatus], shown: int, keep_tree: KeepTree, progress: Progress
    ) -> None:
        self._store = store
        self._statuses = statuses
        self._shown = shown
        self._keep_tree = keep_tree
        self._progress = progress
        self._faults: list[Fault] = []
        self._done = 0
        self._total = 0
        self._tallies: dict[str, dict[str, TreeTally]] = defaultdict(dict)
        self._calibrations: dict[str, Calibration] = defaultdict(Calibration)
        self._samples: dict[tuple[str, str, bool | None], list[tuple[int, Sample]]] = defaultdict(list)

    def report(self) -> Report:
        outputs = [stage.output for status in self._statuses.values() for stage in status.stages]
        stages = read_stages(self._store, self._faults, [output.manifest for output in outputs if output is not None])
        folders = [folder for of_round in stages.values() for folder in of_round.values()]
        self._total = sum(len(_tables_of(folder)) + len(tree_shards(folder)) for folder in folders)
        self._progress(0, self._total)
        tables = {name: self._tables(of_round.values()) for name, of_round in stages.items()}
        first = next((table.classes for table in tables.values() if table.classes), {})
        training, held_out = self._choices(tables.values())
        for folder in folders:
            chosen = training if folder.stage is Stage.ROLLOUT else held_out
            for source, path in tree_shards(folder):
                self._add_shard(folder, source, path, tables[folder.round], chosen)
        # A round that has started and stored nothing yet has a status only.
        names = [*stages, *(name for name in self._statuses if name not in stages)]
        rounds = tuple(self._round(name, stages.get(name, {}), tables.get(name, _Tables()), first) for name in names)
        order = sorted(self._samples, key=lambda key: (names.index(key[0]), key[1] != ROLLOUT, key[1], str(key[2])))
        return Report(
            store=self._store.uri,
            rounds=rounds,
            lineage=lineage(stages),
            samples=tuple(one for key in order for _, one in self._samples[key]),
            faults=tuple(self._faults),
            missing=tuple(missing_parts(rounds)),
            problems={"training": training.searched, "held_out": held_out.searched},
        )

    def _choices(self, tables: Iterable[_Tables]) -> tuple[_Chosen, _Chosen]:
        training: dict[str, list[bool]] = defaultdict(list)
        held_out: dict[str, list[bool]] = defaultdict(list)
        for table in tables:
            for problem_id, difficulty in table.classes.items():
                training[problem_id].append(difficulty != Difficulty.HARD)
            for of_method in table.results.values():
                for problem_id, result in of_method.items():
                    held_out[problem_id].append(result.correct)
        return _Chosen(training, self._shown), _Chosen(held_out, self._shown)

    def _tables(self, folders: Iterable[StageFolder]) -> _Tables:
        found = _Tables()
        for folder in folders:
            for path in _tables_of(folder):
                for row in self._read(folder, path, _rows) or []:
                    try:
                        if folder.stage is Stage.EVALUATE:
                            method, result = str(row.pop("method")), ProblemResult(**row)
                            found.results.setdefault(method, {})[result.problem_id] = result
                        else:
                            found.classes[str(row["problem_id"])] = Difficulty(row["difficulty"]).value
                    except (KeyError, TypeError, ValueError) as error:
                        self._fault(f"{folder.prefix}/{path}", f"it has not the columns of its kind: {error}")
                        break
        return found

    def _add_shard(self, folder: StageFolder, source: str, path: str, tables: _Tables, chosen: _Chosen) -> None:
        name = folder.round
        tally = self._tallies[name].setdefault(source, TreeTally(source))
        for problem, record in self._read(folder, path, trees_in) or []:
            result = None if source == ROLLOUT else tables.result(source, problem.id)
            tally.add(record, result)
            if record.ppm_digest:
                add_to_calibration(self._calibrations[record.ppm_digest], record, source, result)
            rank = chosen.rank(problem.id)
            if rank is None:
                continue
            found = sample(name, source, problem, record, result)
            kept = self._samples[name, source, found.right]
            kept.append((rank, found))
            kept.sort(key=lambda item: item[0])
            del kept[SAMPLES:]
            self._keep_tree((name, source, problem.id), rank, problem, record, result)

    def _round(
        self, name: str, stages: Mapping[Stage, StageFolder], tables: _Tables, first: Mapping[str, str]
    ) -> RoundFigures:
        status = self._statuses.get(name)
        guides = status.condition("PPMGuides") if status is not None else None
        trees = tuple(tally.figures() for tally in self._tallies[name].values())
        ordered = {method: [*of_method.values()] for method, of_method in tables.results.items()}
        return RoundFigures(
            name=name,
            previous=previous_round(stages),
            phase=status.phase if status is not None else "",
            message=status.message if status is not None else "",
            guidance=guides.message if guides is not None else "",
            stages=tuple(stage_figures(stage, stages.get(stage), status) for stage in STAGES),
            methods=method_figures(ordered),
            difficulty=difficulty_figures(tables.classes, first) if tables.classes else None,
            ppm=self._ppm(stages.get(Stage.TRAIN_PPM)),
            trees=trees,
        )

    def _ppm(self, folder: StageFolder | None) -> PpmFigures | None:
        if folder is None or folder.manifest is None or not folder.manifest.folder_digest(CHECKPOINT):
            return None
        calibration = self._calibrations[folder.manifest.folder_digest(CHECKPOINT)]
        return ppm_figures(folder.manifest.metrics, calibration.bins())

    def _fault(self, key: str, reason: str) -> None:
        self._faults.append(Fault(key, reason))

    def _read(self, folder: StageFolder, path: str, parse: Callable[[bytes], T]) -> T | None:
        """Read and check one file; None, and a fault, when it cannot be used."""
        key = f"{folder.prefix}/{path}"
        try:
            return parse(read_checked(self._store, folder, path))
        except KeyError:
            self._fault(key, "it is not in the store")
        except (ValueError, TypeError, OSError, StoreError) as error:
            self._fault(key, " ".join(str(error).split()))
        finally:
            self._done += 1
            self._progress(self._done, self._total)
        return None


def _rows(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def _tables_of(folder: StageFolder) -> list[str]:
    """Return the small tables of a stage that are read before its trees."""
    match folder.stage:
        case Stage.SELECT:
            return folder.files(PARQUET, below="difficulty/")
        case Stage.EVALUATE:
            return folder.files(RESULTS)
        case _:
            return []
