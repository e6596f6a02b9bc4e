"""The main loop of every interpreter: wait for the warden, fork, and in the child run one command, then wait again.

A zygote has imported common modules and runs no program itself. An interpreter whose steps ran to their end and that
holds nothing a fork could not copy becomes a snapshot: it waits like a zygote, and its forks continue after its last step.
A fork prepares itself, then waits for its command, which may come much later. Every interpreter is a child of the warden,
which learns from the kernel alone who makes a call, who ended and how. Standard library only.
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
from rstar_executor.interpreter.shared_memory import AWAIT_FORK, AWAIT_KILL, EXIT, OK, SYNTAX, SharedMemory
from rstar_executor.sandbox.kernel import fork_sibling

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def serve_forks(
    memory: SharedMemory, scope_signals: Callable[[], None], end_with_warden: Callable[[], None]
) -> NoReturn:
    """Wait, fork, wait and run, for ever.

    Before it waits for its command, every fork calls ``end_with_warden``, and a fork of a zygote ``scope_signals`` too.
    """
    # Bound before a program can patch them.
    notify, leave, own_pid, new_session = os.sched_rr_get_interval, os._exit, os.getpid, os.setsid
    read_command, begin, finish = memory.read_command, memory.begin, memory.finish
    run_steps, flush = runner.run_steps, runner.flush
    idle, shut_down, fork = _IdleCheck(), _shut_down, fork_sibling
    leave_script = runner.leave_script
    is_zygote, me = True, 0
    # A zygote runs no program: its forks find a name space that nobody has used.
    names = runner.fresh_main()
    value = 0
    try:
        while True:
            notify(value)
            value = fork()
            if value != 0:
                continue
            new_session()
            end_with_warden()
            if is_zygote:
                is_zygote = False
                scope_signals()
                gc.enable()
            me = own_pid()
            notify(0)
            command = read_command()
            begin()
            try:
                end = run_steps(command.steps, command.line, names, command.tracebacks, command.script)
                next_action = AWAIT_FORK if end.state == OK else AWAIT_KILL
            except SystemExit:
                end, next_action = runner.ProgramEnd(), AWAIT_KILL
                flush(end)
            if own_pid() != me or not idle():
                next_action = EXIT
                if end.state != SYNTAX:
                    shut_down(end)
                # A process that the program forked also gets here unless it exits by itself: it must not report.
                if own_pid() != me:
                    if command.script:
                        leave_script(names)
                    leave(end.exit_code)
            if command.script:
                leave_script(names)
                if not idle():
                    next_action = EXIT
            finish(end.state, end.reason, end.traceback, next_action, end.exit_code)
            if next_action == EXIT:
                leave(0)
    finally:
        leave(1)


def _shut_down(end: runner.ProgramEnd) -> None:
    runner.shut_down()
    runner.flush(end)


class _IdleCheck:
    """Whether the calling process has nothing left to do, now or at its exit, so that a fork of it is a full copy."""

    def __init__(self) -> None:
        self._handlers = atexit._ncallbacks
        self._own_handlers = self._handlers()
        self._threads = threading.active_count
        self._wait, self._timer = os.waitpid, signal.getitimer
        self._no_child, self._modules, self._stdout = ChildProcessError, sys, sys.stdout

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
        except self._no_child:
            return True
        except BaseException:
            return False
        return False
