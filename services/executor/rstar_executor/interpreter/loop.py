"""The life of a warm interpreter: wait for the warden, fork, and in the child run what was ordered, then wait in turn.

A *root* has imported what programs commonly want and runs no program itself. An interpreter whose steps ran to their end
and that holds nothing a fork could not copy *rests*: it waits like a root, and what its forks are told to run goes on from
where it stopped. A fork prepares itself and waits for what it is to run, which may come much later. Every interpreter is
a child of the warden, which learns from the kernel alone who speaks, who ended and how. Standard library only: this runs inside the sandbox. It refuses to decide anything.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from rstar_executor.interpreter import runner
from rstar_executor.interpreter.shared_memory import LEAVES, OK, RESTS, SYNTAX, WAITS, Area
from rstar_executor.sandbox.kernel import fork_sibling

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def live(area: Area, birth: Callable[[], None], infancy: Callable[[], None]) -> NoReturn:
    """Wait, fork, wait and run, for ever.

    Every fork calls ``infancy``, those of a root ``birth`` too, before they wait for what they are to run.
    """
    # Bound before a program can patch them.
    converse, leave, own_pid, new_session = os.sched_rr_get_interval, os._exit, os.getpid, os.setsid
    ordered, begin, finish = area.ordered, area.begin, area.finish
    run_steps, flush = runner.run_steps, runner.flush
    idle, end, fork = _Idle(), _end, fork_sibling
    root, me = True, 0
    # A root runs no program: its forks find a name space that nobody has used.
    names = runner.fresh_main()
    said = 0
    try:
        while True:
            converse(said)
            if root or not area.itself:
                said = fork()
                if said != 0:
                    continue
                new_session()
                infancy()
                if root:
                    root = False
                    birth()
                    gc.enable()
                me = own_pid()
                converse(0)
            command = ordered()
            begin()
            try:
                ending = run_steps(command.steps, command.line, names, command.tracebacks)
                then = RESTS if ending.state == OK else WAITS
            except SystemExit:
                ending, then = runner.Ending(), WAITS
                flush(ending)
            if own_pid() != me or not idle():
                then = LEAVES
                if ending.state != SYNTAX:
                    end(ending)
                # A process that the program forked comes by here too when it does not leave by itself: it has no say.
                if own_pid() != me:
                    leave(0)
            finish(ending.state, ending.reason, ending.traceback, then)
            if then == LEAVES:
                leave(0)
    finally:
        leave(1)


def _end(ending: runner.Ending) -> None:
    runner.shut_down()
    runner.flush(ending)


class _Idle:
    """Says whether nothing is left to do in the calling process, at its end or ever: so a fork finds all that it is."""

    def __init__(self) -> None:
        self._handlers = atexit._ncallbacks
        self._own_handlers = self._handlers()
        self._threads = threading.active_count
        self._wait, self._timer = os.waitpid, signal.getitimer
        self._closed, self._modules, self._stdout = ChildProcessError, sys, sys.stdout

    def __call__(self) -> bool:
        try:
            if (
                self._handlers() != self._own_handlers
                or self._threads() != 1
                or self._modules.stdout is not self._stdout
            ):
                return False
            if any(self._timer(which) != (0.0, 0.0) for which in _TIMERS):
                return False
            self._wait(-1, os.WNOHANG)
        except self._closed:
            return True
        except BaseException:
            return False
        return False
