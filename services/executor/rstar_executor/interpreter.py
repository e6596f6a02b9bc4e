"""The life of a warm interpreter: wait for the warden, fork, and in the child run what was ordered, then wait in turn.

A *root* has imported what programs commonly want and runs no program itself. An interpreter whose steps ran to their end
and that holds nothing a fork could not copy *rests*: it waits like a root, and what it is told to run goes on from
where it stopped. Every interpreter is a child of the warden, which learns from the kernel alone who speaks, who
ended and how. Standard library only: this runs inside the sandbox. It refuses to decide anything.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from rstar_executor import runner
from rstar_executor.area import OK, SYNTAX, Area, Command
from rstar_executor.sandbox import identity, limits
from rstar_executor.sandbox.kernel import fork_sibling

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def live(area: Area, enter: Callable[[], None]) -> NoReturn:
    """Wait, fork and run, for ever; ``enter`` is called once in every program that starts from a root."""
    # Bound before a program can patch them.
    converse, leave, own_pid, new_session = os.sched_rr_get_interval, os._exit, os.getpid, os.setsid
    ordered, begin, finish, run_steps = area.ordered, area.begin, area.finish, runner.run_steps
    rests, end, fork = _Rests(), _end, fork_sibling
    end_with_parent, kill = identity.end_with_parent, signal.SIGKILL
    root = True
    names: dict[str, Any] = {}
    said = 0
    try:
        while True:
            converse(said)
            try:
                said = fork()
            except OSError as error:
                said = -(error.errno or 1)
            if said != 0:
                continue
            new_session()
            end_with_parent(kill)
            command = ordered()
            if root:
                root, names = False, runner.fresh_main()
                _enter_program(command, enter)
            me = own_pid()
            begin()
            try:
                ending = run_steps(command.steps, command.line, names)
                over = ending.state != OK
            except SystemExit:
                ending, over = runner.Ending(), True
            rest = command.rest and not over and own_pid() == me and rests()
            if not rest and ending.state != SYNTAX:
                end(ending)
            # A process that the program forked comes by here too when it does not leave by itself: it has no say.
            if own_pid() != me:
                leave(0)
            finish(ending.state, ending.reason, rest)
            if not rest:
                leave(0)
    finally:
        leave(1)


def _enter_program(command: Command, enter: Callable[[], None]) -> None:
    enter()
    limits.enter_program(command.limits, command.own_bytes)
    gc.enable()


def _end(ending: runner.Ending) -> None:
    runner.shut_down()
    runner.flush(ending)


class _Rests:
    """Says whether the calling process can wait and be forked: the fork must find all that the process is."""

    def __init__(self) -> None:
        self._handlers = atexit._ncallbacks
        self._own_handlers = self._handlers()
        self._threads = threading.active_count
        self._wait, self._timer = os.waitpid, signal.getitimer
        self._closed = ChildProcessError

    def __call__(self) -> bool:
        try:
            if self._handlers() != self._own_handlers or self._threads() != 1:
                return False
            if any(self._timer(which) != (0.0, 0.0) for which in _TIMERS):
                return False
            self._wait(-1, os.WNOHANG)
        except self._closed:
            return True
        except BaseException:
            return False
        return False
