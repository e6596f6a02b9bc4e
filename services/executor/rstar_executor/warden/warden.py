"""The warden: the trusted process of a slot, which runs batches of programs and returns their results.

It reads batches from an inherited socket and answers each with one frame per program and a last one. A batch is JSON
``{"kind", "limits", "steps", "candidates", "tracebacks", "script"}``; an empty frame from the server interrupts the running batch, and
when the socket closes, the warden ends. A candidate runs in a fork of the zygote or, with the same result, of the snapshot
with the longest prefix of its steps. A batch with a ``script`` (``script.Script``) has one candidate, which runs with its
standard input and files. An interpreter is not trusted: the kernel says which process makes a call, which
is alive and how it ended. Standard library only.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Final

from rstar_executor.interpreter import shared_memory
from rstar_executor.interpreter.shared_memory import Command, SharedMemory
from rstar_executor.sandbox.limits import Limits
from rstar_executor.warden.prefork import InterpreterLostError, Preforker
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.run_program import InterruptedBatchError, ProgramResult, ProgramRunner
from rstar_executor.warden.scratch import Scratch
from rstar_executor.warden.script import Script, encode_result, standard_input
from rstar_executor.warden.snapshots import (
    SNAPSHOT_KINDS,
    Snapshot,
    Snapshots,
    digests,
    follow,
    resumable,
    separable,
    units,
)
from rstar_executor.warden.status import INTERNAL, TIMEOUT, timeout_reason
from rstar_executor.warden.wire import read_frame, write_frame
from rstar_executor.warden.zygotes import Zygote, ZygoteLostError, Zygotes

RESULT: Final = struct.Struct("!BdII")
"""Head of a result: status, milliseconds, bytes of reason and of traceback; these and the standard output follow."""
RESULT_FRAME, SCRIPT_FRAME, LAST_FRAME = b"R", b"S", b"E"

MOST_SNAPSHOTS: Final = 64


class WardenUnusableError(Exception):
    """The warden can run no more programs; the results that it has sent hold."""


class Warden:
    """The state that is kept from program to program."""

    def __init__(
        self,
        control: int,
        memory: SharedMemory,
        zygotes: Zygotes,
        processes: Processes,
        scratch: Scratch,
        snapshot_bytes: int,
    ) -> None:
        self._control, self._zygotes, self._processes, self._scratch = control, zygotes, processes, scratch
        self._snapshots = Snapshots(snapshot_bytes, MOST_SNAPSHOTS)
        self._preforker = Preforker(processes, self._known_pids)
        self._runner = ProgramRunner(control, memory, processes, self._preforker)
        self._snapshots_enabled = snapshot_bytes > 0
        self._resumed = 0
        self._unusable = False

    def serve(self) -> None:
        """Run batches until the socket closes, or until the warden is unusable and has reported so."""
        while (frame := read_frame(self._control)) is not None:
            if not frame:
                continue  # an interruption that arrived after the end of its batch
            batch = json.loads(frame)
            self._resumed = 0
            unusable = ""
            try:
                if batch["script"] is not None:
                    self._run_script(
                        batch["kind"], Limits(*batch["limits"]), batch["candidates"][0], Script(*batch["script"])
                    )
                else:
                    self._run_batch(
                        batch["kind"],
                        Limits(*batch["limits"]),
                        batch["steps"],
                        batch["candidates"],
                        batch["tracebacks"],
                    )
            except (WardenUnusableError, ZygoteLostError) as error:
                os.write(2, f"rstar executor: {error}\n".encode())
                unusable = str(error)
            except InterruptedBatchError as interruption:
                self._clean_up()
                if interruption.closed:
                    return
            stats = (self._resumed, len(self._snapshots), self._snapshots.size, unusable)
            write_frame(self._control, LAST_FRAME + json.dumps(stats).encode())
            if unusable:
                return

    def _run_batch(self, kind: str, limits: Limits, steps: list[str], candidates: list[str], tracebacks: bool) -> None:
        """Run a batch; with ``tracebacks``, without snapshots: a traceback needs the source of all steps."""
        # No interpreter that ran an earlier program may still run beside the programs of this batch.
        self._preforker.wait_for_parents()
        zygote = self._zygotes.get(kind, self._processes)
        use_snapshots = (
            self._snapshots_enabled and kind in SNAPSHOT_KINDS and not tracebacks and all(map(_may_be_snapshot, steps))
        )
        keys = digests(limits, steps)
        if use_snapshots and steps:
            self._snapshot_steps(zygote, limits, steps, keys)
        for number, candidate in enumerate(candidates, 1):
            program, program_keys = [*steps, candidate], [*keys, follow(keys[-1], candidate)]
            if use_snapshots and _may_be_snapshot(candidate):
                result = self._run_candidate(zygote, limits, program, program_keys, len(candidates) - number)
            else:
                result = self._run_from_zygote(zygote, limits, program, None, tracebacks=tracebacks)
            write_frame(self._control, RESULT_FRAME + _encode(result))
            self._raise_if_unusable()

    def _run_script(self, kind: str, limits: Limits, text: str, script: Script) -> None:
        """Run a script, from the zygote and without a snapshot: its directory must stay until its files are read."""
        self._preforker.wait_for_parents()
        zygote = self._zygotes.get(kind, self._processes)
        command = Command(line=0, tracebacks=False, steps=[text], script=True)
        try:
            self._scratch.write(script.contents())
            with standard_input(script) as stdin:
                result = self._runner.run(
                    zygote.snapshot, zygote, limits, command, keep=False, prefork=True, stdin=stdin
                )
        except InterpreterLostError as error:
            raise ZygoteLostError(f"the {zygote.kind} zygote is gone") from error
        # Only when none of its processes runs any more: one could swap files for links.
        self._sweep(set())
        files, too_large = ([], []) if self._unusable else self._scratch.read(script.fetch, script.fetch_bytes)
        self._clean_up()
        write_frame(self._control, SCRIPT_FRAME + encode_result(result, files, too_large))
        self._raise_if_unusable()

    def _snapshot_steps(self, zygote: Zygote, limits: Limits, steps: list[str], keys: list[bytes]) -> None:
        """Make a snapshot after ``steps`` if that is possible, for the candidates to start from."""
        depth, start = self._snapshots.longest(keys)
        if depth == len(steps):
            return
        if start is None or self._resume(start, depth, zygote, limits, steps, keys, left=0) is None:
            self._run_from_zygote(zygote, limits, steps, keys[-1])
        self._raise_if_unusable()

    def _run_candidate(
        self, zygote: Zygote, limits: Limits, program: list[str], keys: list[bytes], left: int
    ) -> ProgramResult:
        depth, start = self._snapshots.longest(keys[:-1])
        if start is not None and (result := self._resume(start, depth, zygote, limits, program, keys, left)):
            self._resumed += 1
            return result
        return self._run_from_zygote(zygote, limits, program, keys[-1])

    def _resume(
        self,
        start: Snapshot,
        depth: int,
        zygote: Zygote,
        limits: Limits,
        program: list[str],
        keys: list[bytes],
        left: int,
    ) -> ProgramResult | None:
        """Run the steps of ``program`` after the first ``depth``, which ``start`` has run.

        Returns None where only a run of the whole program gives its result. ``left``: the number of programs of the batch
        that will start from the same snapshot.
        """
        if start.seconds >= limits.seconds:
            return ProgramResult(TIMEOUT, timeout_reason(limits), b"", start.stdout, 0.0, shared_memory.RUNNING, None)
        line = sum(step.count("\n") for step in program[:depth])
        command = Command(line, tracebacks=False, steps=program[depth:])
        try:
            result = self._runner.run(start, zygote, limits, command, keep=True, prefork=left > 0)
        except InterpreterLostError:
            for lost in self._snapshots.drop(keys[depth]):
                self._end(lost)
            self._clean_up()
            return None
        self._keep_snapshot(result, keys[-1])
        # A step that does not compile alone may compile as part of the whole program.
        return None if result.state == shared_memory.SYNTAX or result.status == INTERNAL else result

    def _run_from_zygote(
        self, zygote: Zygote, limits: Limits, program: list[str], key: bytes | None, tracebacks: bool = False
    ) -> ProgramResult:
        """Run a whole program; with a ``key``, try to make a snapshot of its end."""
        command = Command(line=0, tracebacks=tracebacks, steps=units(program))
        try:
            result = self._runner.run(zygote.snapshot, zygote, limits, command, keep=key is not None, prefork=True)
        except InterpreterLostError as error:
            raise ZygoteLostError(f"the {zygote.kind} zygote is gone") from error
        self._keep_snapshot(result, key)
        return result

    def _keep_snapshot(self, result: ProgramResult, key: bytes | None) -> None:
        """Clean up after a program, and keep its snapshot if nothing else of the program was left."""
        snapshot = result.snapshot
        clean = self._clean_up(snapshot)
        if snapshot is None:
            return
        if key is None or not clean:
            self._end(snapshot)
            return
        for dropped in self._snapshots.put(key, snapshot):
            self._end(dropped)

    def _end(self, snapshot: Snapshot) -> None:
        self._preforker.discard(snapshot)
        self._processes.end_later(snapshot.pid)

    def _known_pids(self) -> set[int]:
        running = self._runner.running
        known = self._zygotes.pids() | self._snapshots.pids() | self._preforker.pids()
        return known if running is None else known | {running}

    def _clean_up(self, snapshot: Snapshot | None = None) -> bool:
        """Remove everything that the last program left except its ``snapshot``; say whether there was nothing."""
        self._sweep(set() if snapshot is None else {snapshot.pid})
        clean = self._scratch.empty()
        if not clean:
            self._scratch.clean()
        return clean and not self._unusable

    def _sweep(self, kept: set[int]) -> None:
        """End every process that the last program left, except those ``kept``."""
        self._processes.reap()
        if self._processes.strays(self._known_pids() | kept):
            # A stray may be a fork whose parent has not yet sent its pid.
            self._preforker.wait_for_parents()
            if not self._processes.sweep(self._known_pids() | kept):
                self._snapshots.clear()
                self._processes.end_all()
                self._unusable = True

    def _raise_if_unusable(self) -> None:
        if self._unusable:
            raise WardenUnusableError("the processes of a program could be ended only together with all others")


def _may_be_snapshot(step: str) -> bool:
    return separable(step) and resumable(step)


def _encode(result: ProgramResult) -> bytes:
    head = RESULT.pack(result.status, result.seconds * 1000, len(result.reason), len(result.traceback))
    return head + result.reason + result.traceback + result.stdout
