"""The warden: the trusted process that tells interpreters what to run and answers the executor.

It reads batches from an inherited socket and answers each with one frame per program and a last one. A batch is JSON
``{"kind", "limits", "steps", "candidates", "whole"}``; an empty frame from the other side ends the running batch early, and when
the socket closes, the warden ends. A candidate runs in a fork of the interpreter that rests after the longest prefix of
its steps, or of the root: either way with the same result. Standard library only. It refuses to trust an interpreter:
who speaks, who lives and how it ended is asked of the kernel.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Final

from rstar_executor.interpreter import shared_memory
from rstar_executor.interpreter.shared_memory import Area, Command
from rstar_executor.sandbox.limits import Limits
from rstar_executor.warden.prefork import Births, LostError
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.run_program import Ended, Executions, InterruptedBatchError, Way
from rstar_executor.warden.scratch import Scratch
from rstar_executor.warden.snapshots import Resting, Snapshots, digests, follow, pieces, resumable, separable
from rstar_executor.warden.status import INTERNAL, TIMEOUT
from rstar_executor.warden.wire import read_frame, write_frame
from rstar_executor.warden.zygotes import Root, RootLostError, Roots

RESULT: Final = struct.Struct("!BdII")
"""Head of a result: status, milliseconds, bytes of reason and of traceback; these and the standard output follow."""
RESULT_FRAME, LAST_FRAME = b"R", b"E"

MOST_SNAPSHOTS: Final = 64
_QUICKLY_SECONDS: Final = 0.005


class SpentError(Exception):
    """The warden can run no more programs; what it has answered holds."""


class Warden:
    """The state that outlives a program."""

    def __init__(
        self, control: int, area: Area, roots: Roots, processes: Processes, scratch: Scratch, snapshot_bytes: int
    ) -> None:
        self._control, self._roots, self._processes, self._scratch = control, roots, processes, scratch
        self._snapshots = Snapshots(snapshot_bytes, MOST_SNAPSHOTS)
        self._births = Births(processes, self._known)
        self._executions = Executions(control, area, processes, self._births)
        self._keeps = snapshot_bytes > 0
        self._resumed = 0
        self._spent = False

    def serve(self) -> None:
        """Answer batches until the socket closes, or until programs can be run no more and the other side was told."""
        while (frame := read_frame(self._control)) is not None:
            if not frame:
                continue  # an interruption that came when its batch had just ended
            batch = json.loads(frame)
            self._resumed = 0
            spent = False
            try:
                self._batch(
                    batch["kind"], Limits(*batch["limits"]), batch["steps"], batch["candidates"], batch["whole"]
                )
            except (SpentError, RootLostError) as error:
                os.write(2, f"rstar executor: {error}\n".encode())
                spent = True
            except InterruptedBatchError as interruption:
                self._tidy()
                if interruption.gone:
                    return
            told = (self._resumed, len(self._snapshots), self._snapshots.size, int(spent))
            write_frame(self._control, LAST_FRAME + json.dumps(told).encode())
            if spent:
                return

    def _batch(self, kind: str, limits: Limits, steps: list[str], candidates: list[str], whole: bool) -> None:
        """Run a batch; ``whole``: every program from its start, with a traceback where it fails."""
        # What a program left on its way to rest is not awake beside those of others.
        self._births.settle()
        root = self._roots.get(kind, self._processes)
        keeps = self._keeps and not whole and all(separable(step) and resumable(step) for step in steps)
        keys = digests(kind, limits, steps)
        if keeps and steps:
            self._rest_after(root, limits, steps, keys)
        for number, candidate in enumerate(candidates, 1):
            rest = keeps and separable(candidate) and resumable(candidate)
            left = len(candidates) - number
            program, following = [*steps, candidate], [*keys, follow(keys[-1], candidate)]
            if rest:
                ended = self._candidate(root, limits, program, following, left)
            else:
                ended = self._from_root(root, limits, program, None, tracebacks=whole)
            write_frame(self._control, RESULT_FRAME + _result(ended))
            self._check()

    def _rest_after(self, root: Root, limits: Limits, steps: list[str], keys: list[bytes]) -> None:
        """Have an interpreter rest after ``steps`` if that is possible: the candidates will find it."""
        depth, start = self._snapshots.longest(keys)
        if depth == len(steps):
            return
        if start is None or self._resume(start, depth, root, limits, steps, keys, left=0) is None:
            self._from_root(root, limits, steps, keys[-1])
        self._check()

    def _candidate(self, root: Root, limits: Limits, program: list[str], keys: list[bytes], left: int) -> Ended:
        depth, start = self._snapshots.longest(keys[:-1])
        if start is not None and (ended := self._resume(start, depth, root, limits, program, keys, left)):
            self._resumed += 1
            return ended
        return self._from_root(root, limits, program, keys[-1])

    def _resume(
        self,
        start: Resting,
        depth: int,
        root: Root,
        limits: Limits,
        program: list[str],
        keys: list[bytes],
        left: int,
    ) -> Ended | None:
        """Run what follows after ``depth`` steps from where ``start`` rests; None where only the whole program tells.

        ``left``: so many more are known to go on from there.
        """
        if start.seconds >= limits.seconds:
            reason = f"not finished after {limits.seconds:g} s".encode()
            return Ended(TIMEOUT, reason, b"", start.stdout, 0.0, shared_memory.RUNNING, None)
        line = sum(step.count("\n") for step in program[:depth])
        command = Command(line, tracebacks=False, steps=program[depth:])
        way = _way(start.seconds, left)
        if way == Way.ITSELF:
            # Nobody else is to read this order, and it is not to be answered twice.
            self._births.settle()
            self._births.forget(start)
            self._snapshots.drop(keys[depth])
        try:
            ended = self._executions.run(start, root, limits, command, keep=True, way=way)
        except LostError:
            for lost in self._snapshots.drop(keys[depth]):
                self._end(lost)
            self._tidy()
            return None
        self._settle(ended, keys[-1])
        # What does not compile alone may do so as part of the whole.
        return None if ended.state == shared_memory.SYNTAX or ended.status == INTERNAL else ended

    def _from_root(
        self, root: Root, limits: Limits, program: list[str], key: bytes | None, tracebacks: bool = False
    ) -> Ended:
        """Run a whole program; with a ``key``, its interpreter may rest under it."""
        command = Command(line=0, tracebacks=tracebacks, steps=pieces(program))
        try:
            ended = self._executions.run(
                root.resting, root, limits, command, keep=key is not None, way=Way.FORK_AND_AGAIN
            )
        except LostError as error:
            raise RootLostError(f"the {root.kind} interpreter is gone") from error
        self._settle(ended, key)
        return ended

    def _settle(self, ended: Ended, key: bytes | None) -> None:
        """Keep the interpreter that rests, if nothing of its program is left outside it, and clear up."""
        resting = ended.resting
        clean = self._tidy(resting)
        if resting is None:
            return
        if key is None or not clean:
            self._end(resting)
            return
        for going in self._snapshots.put(key, resting):
            self._end(going)

    def _end(self, resting: Resting) -> None:
        self._births.forget(resting)
        self._processes.end_later(resting.pid)

    def _known(self) -> set[int]:
        running = self._executions.running
        known = self._roots.pids() | self._snapshots.pids() | self._births.pids()
        return known if running is None else known | {running}

    def _tidy(self, resting: Resting | None = None) -> bool:
        """Leave nothing of the program that ran but what rests of it; say whether there was nothing else."""
        mine = set() if resting is None else {resting.pid}
        self._processes.reap()
        if self._processes.strays(self._known() | mine):
            # It may be a newborn of which nobody has heard yet.
            self._births.settle()
            if not self._processes.sweep(self._known() | mine):
                self._snapshots.clear()
                self._processes.end_all()
                self._spent = True
        clean = self._scratch.empty()
        if not clean:
            self._scratch.clean()
        return clean and not self._spent

    def _check(self) -> None:
        if self._spent:
            raise SpentError("a program could only be ended together with everything else")


def _way(seconds: float, left: int) -> Way:
    """Return how to go on from steps that took ``seconds``, when ``left`` more are known to do so after this one.

    The last goes on itself where the steps are quickly run again, should anybody want them: so none is forked for it.
    """
    quick = seconds < _QUICKLY_SECONDS
    if quick and left == 0:
        return Way.ITSELF
    return Way.FORK_AND_AGAIN if left > (1 if quick else 0) else Way.FORK


def _result(ended: Ended) -> bytes:
    head = RESULT.pack(ended.status, ended.seconds * 1000, len(ended.reason), len(ended.traceback))
    return head + ended.reason + ended.traceback + ended.stdout
