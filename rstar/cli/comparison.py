"""The searches of ``rstar evaluate``: every method on the same problems, with progress, kept where that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from rstar.cli.kept_searches import KeptSearches, model_digests
from rstar.cli.progress_bars import Shown, progress_bars
from rstar.interfaces import RoleUnavailable
from rstar.rounds.evaluation import grade
from rstar.rounds.shared_samples import rechosen, sampled_by
from rstar.rpc import tracing
from rstar.rpc.search_client import record_attributes
from rstar.rpc.spans import SEARCH
from rstar.search.expansion import gather_or_cancel
from rstar.search.solve import SearchFailed, solve
from rstar.seeds import derive

if TYPE_CHECKING:
    from rstar.config import SearchConfig
    from rstar.interfaces import Verifier
    from rstar.problem import Problem
    from rstar.record import SearchRecord
    from rstar.rounds.evaluation import ProblemResult
    from rstar.sdk.models import ModelClients
    from rstar.search.choice import Same


@dataclass(frozen=True, slots=True)
class Comparison:
    """What all methods share. ``judge`` is the verifier with the name ``verifier``; ``same`` decides for it which answers are equal.

    Finished searches are kept in ``folder``, unless it is None, and found there again by the same settings and models.
    """

    models: ModelClients
    problems: list[Problem]
    verifier: str
    judge: Verifier
    same: Same
    seed: int
    concurrency: int
    prompt: str
    folder: Path | None = None

    async def results(self, configs: Mapping[str, SearchConfig]) -> dict[str, list[ProblemResult]]:
        """Run the methods one after the other, each with ``concurrency`` problems at once, and grade the answers.

        Methods that choose among the same samples are run once.
        """
        named = {id(config): name for name, config in configs.items()}
        source = {name: named[id(sampled_by(config, [*configs.values()]))] for name, config in configs.items()}
        drawn = await self._drawn({name: config for name, config in configs.items() if source[name] == name})
        results = {}
        for name, config in configs.items():
            records = drawn[source[name]]
            if source[name] != name:
                records = await gather_or_cancel(rechosen(record, config, self.same) for record in records)
            graded = (
                grade(problem, record, self.judge) for problem, record in zip(self.problems, records, strict=True)
            )
            results[name] = await gather_or_cancel(graded)
        return results

    async def _drawn(self, configs: Mapping[str, SearchConfig]) -> dict[str, list[SearchRecord]]:
        """Return the records of every method, in problem order, and show the progress."""
        models = {} if self.folder is None else await model_digests(self.models)
        with progress_bars() as shown:
            return {name: await self._searched(name, config, models, shown) for name, config in configs.items()}

    async def _searched(
        self, name: str, config: SearchConfig, models: Mapping[str, str], shown: Shown
    ) -> list[SearchRecord]:
        kept = None
        if self.folder is not None:
            settings = {"search": config.model_dump(mode="json"), "verifier": self.verifier, "prompt": self.prompt}
            kept = KeptSearches(self.folder, {**settings, "seed": self.seed, "models": models})
        slots = asyncio.Semaphore(self.concurrency)
        finished = count(1)

        async def one(problem: Problem) -> SearchRecord:
            record = kept.get(problem) if kept is not None else None
            if record is None:
                async with slots:
                    record = await self._record(config, problem)
                if kept is not None:
                    kept.add(problem, record)
            shown(name, next(finished), len(self.problems))
            return record

        shown(name, 0, len(self.problems))
        try:
            return await gather_or_cancel(map(one, self.problems))
        finally:
            if kept is not None:
                kept.store()

    async def _record(self, config: SearchConfig, problem: Problem) -> SearchRecord:
        """Search one problem; the record of a failed search has its error.

        Raises the error of a role that cannot be called any more: no further problem can be searched then.
        """
        try:
            with tracing.span(SEARCH, problem_id=problem.id, method=config.method) as span:
                record = await solve(
                    problem,
                    config,
                    policy=self.models.policy,
                    executor=self.models.executor,
                    ppm=self.models.ppm,
                    same=self.same,
                    seed=derive(self.seed, "evaluate", problem.id),
                )
                span.set(**record_attributes(record))
                return record
        except SearchFailed as failed:
            if isinstance(failed.__cause__, RoleUnavailable):
                raise failed.__cause__ from None
            return failed.record
