"""Runs rounds on this machine: observe, plan, act, until all rounds are done.

The planner decides (``rstar.rounds.plan``), as for the operator; this loop polls processes and carries out actions. It
may be killed at any time: the next run continues from the journal and the store. SIGINT or SIGTERM suspends the round:
stages save their work and end. Every pass reads the requests of ``rstar suspend`` and ``rstar cancel``
(``rstar.local.control``); the driver of a round that is suspended in this way waits until it is resumed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from rstar.local.commands import Commands
from rstar.local.control import Control, RequestedChanges
from rstar.local.journal import Journal
from rstar.local.lock import sole_driver
from rstar.local.redo import Redo, delete_output
from rstar.local.results import Report, RunResult, RunStatus
from rstar.local.services import Services
from rstar.local.stages import Stages, read_progress
from rstar.rounds.evolution import not_made, not_needed
from rstar.rounds.observed import (
    STAGES,
    Action,
    EndStage,
    Observed,
    PreviousRound,
    StartService,
    StartStage,
    StopService,
)
from rstar.rounds.plan import Plan, plan
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.status import RoundStatus
from rstar.store.store import Store

POLL_SECONDS: Final = 0.1


def run_rounds(
    rounds: Sequence[EvolutionRound],
    store: Store,
    work: Path,
    commands: Commands,
    report: Report = lambda _: None,
    redo: Sequence[Redo] = (),
    gpus: Sequence[str] = (),
) -> RunResult:
    """Run ``rounds``, in order of their numbers, until they are done, one fails or is suspended, or a signal arrives.

    A round that is suspended by ``rstar suspend`` is waited for; a round whose spec has ``suspend: true`` ends the run.
    ``work`` holds journals, logs and the lock; the stages ``redo`` are made again; model services share ``gpus``. Raises ``DriverRunningError`` when another driver has the lock. Must run
    in the main thread: signals arrive there, and children get their death signal when that thread ends.
    """
    with sole_driver(work), _Signals() as signals:
        for name, stage in redo:
            delete_output(store, name, stage, Journal(work / name))
        return _Run(rounds, store, work, commands, report, signals, gpus).run()


def round_number(work: Path, name: str) -> int | None:
    """Return the number of a round that an earlier run recorded, or None."""
    return Journal(work / name).number


class _Signals:
    """Records SIGINT and SIGTERM. After a ``repeated`` signal everything is killed.

    An ignored SIGINT stays ignored: shells start the background jobs of scripts so, to protect them from Ctrl-C.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.repeated = False
        self._arrived = threading.Event()
        self._before: list[tuple[int, object]] = []

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                self._before.append((number, signal.signal(number, self._record)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _record(self, number: int, _: FrameType | None) -> None:
        self.repeated = self.first is not None
        self.first = self.first or number
        self._arrived.set()

    def wait(self) -> None:
        """Sleep until the next pass, or until a signal arrives."""
        self._arrived.wait(POLL_SECONDS)
        self._arrived.clear()


class _Run:
    """The state of one call of ``run_rounds``."""

    def __init__(
        self,
        rounds: Sequence[EvolutionRound],
        store: Store,
        work: Path,
        commands: Commands,
        report: Report,
        signals: _Signals,
        gpus: Sequence[str],
    ) -> None:
        self._rounds = rounds
        self._store = store
        self._work = work
        self._commands = commands
        self._report = report
        self._signals = signals
        self._services = Services(commands, work / "services", gpus)
        self._statuses: dict[str, RoundStatus] = {}

    def run(self) -> RunResult:
        self._record_waiting_rounds()
        stages: Stages | None = None
        before: EvolutionRound | None = None
        for item in self._rounds:
            if reason := not_needed(item, self._rounds, self._statuses):
                status = not_made(reason, datetime.now(UTC))
                Journal(self._work / item.name).put_status(item.spec.round, status)
                if before is not None and stages is not None:
                    self._run_round(before, stages, last=True)  # ends the services that stayed for this round
                continue
            stages, before = self._stages(item), item
            with self._killing_all_on_error(stages):
                self._run_round(item, stages, last=item is self._rounds[-1])
            if self._statuses[item.name].phase != "Succeeded" or self._signals.first is not None:
                break
        return self._result(stages)

    def _record_waiting_rounds(self) -> None:
        """Write the journals of rounds that have not begun, so that they can be listed, suspended and cancelled."""
        for item in self._rounds:
            journal = Journal(self._work / item.name)
            if journal.status is None:
                journal.put_status(item.spec.round, RoundStatus(phase="Waiting", message="has not begun"))

    def _stages(self, item: EvolutionRound) -> Stages:
        stages = Stages(item, self._store, Journal(self._work / item.name), self._commands)
        stages.take_over(self._previous(item))
        return stages

    def _run_round(self, item: EvolutionRound, stages: Stages, *, last: bool) -> None:
        """Run one round to its end. Its services stay for the next round, whose plan may need them."""
        previous = self._previous(item)
        control = Control(self._work / item.name)
        while True:
            requested = control.read()
            planned = self._plan(item, stages, previous, requested)
            waits = planned.status.phase == "Suspended" and requested.suspend and self._signals.first is None
            over = planned.status.phase != "Running" and not waits
            continues = planned.status.phase == "Succeeded" and not last and self._signals.first is None
            if not continues:
                for action in planned.actions:
                    self._act(action, stages)
            idle = not planned.actions and not self._services.observe() and not any(a.live for a in stages.observe())
            if over and (continues or idle):
                stages.record_trace(planned.status.phase)
                return
            if self._signals.repeated:
                stages.kill()
                self._services.kill()
            self._signals.wait()

    def _plan(self, item: EvolutionRound, stages: Stages, previous: PreviousRound, requested: RequestedChanges) -> Plan:
        """Observe the round, plan, and record and report the status."""
        before = self._statuses.get(item.name)
        observed = Observed(
            attempts=stages.observe(),
            services=self._services.observe(),
            previous=previous,
            conditions=before.conditions if before else (),
            progress=read_progress(stages.journal),
            suspended=self._signals.first is not None or requested.suspend,
        )
        spec = item.spec.model_copy(update={"cancel": True}) if requested.cancel else item.spec
        planned = plan(spec, item.name, observed, datetime.now(UTC))
        self._statuses[item.name] = planned.status
        stages.journal.put_status(item.spec.round, planned.status)
        self._report(RunStatus(dict(self._statuses), item.name, observed.services))
        return planned

    def _act(self, action: Action, stages: Stages) -> None:
        if isinstance(action, StartService):
            self._services.start(action.ref)
        elif isinstance(action, StopService):
            self._services.stop(action.ref)
        elif isinstance(action, StartStage):
            stages.start(action, self._services.addresses(action.search) if action.search else ())
        elif isinstance(action, EndStage):
            stages.end(action)

    def _previous(self, item: EvolutionRound) -> PreviousRound:
        name = item.spec.previous_round
        if name is None:
            return PreviousRound()
        journal = Journal(self._work / name)
        outputs = {a.stage: a.output for a in journal.attempts if a.done and a.output is not None}
        if not outputs:
            return PreviousRound()
        return PreviousRound("succeeded" if len(outputs) == len(STAGES) else "failed", outputs)

    def _result(self, stages: Stages | None) -> RunResult:
        result = RunResult(dict(self._statuses), self._signals.first)
        failed = [a for a in stages.journal.attempts if a.counts] if stages else []
        return replace(result, log=stages.log(failed[-1])) if stages and failed and not result.succeeded else result

    @contextmanager
    def _killing_all_on_error(self, stages: Stages) -> Iterator[None]:
        """Kill all children when the driver itself fails."""
        try:
            yield
        except BaseException:
            stages.kill()
            self._services.kill()
            raise
