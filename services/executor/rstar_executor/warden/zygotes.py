"""The two roots of a warden: the light one, which is warm from the start, and the heavy one, which is when it is wanted.

Both are forked before the warden has seen a program, so that no program can find another's text in its memory. The
module refuses to replace a root that is lost: the whole warden is replaced then.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from rstar_executor.interpreter.shared_memory import Area
from rstar_executor.interpreter.zygote import Plan, become
from rstar_executor.sandbox import notify
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.snapshots import Resting

_READY_SECONDS = 60.0


class RootLostError(Exception):
    """A root did not get ready, or is gone."""


@dataclass
class Root:
    """One root: its interpreter, the listener of its whole family, the bytes of address space of a bare fork."""

    kind: str
    resting: Resting
    listener: int
    own_bytes: int


class Roots:
    """``plans``: what each kind is made of."""

    def __init__(self, plans: Mapping[str, Plan], area: Area, proc: int) -> None:
        self._seeds: dict[str, tuple[int, socket.socket]] = {}
        self._roots: dict[str, Root] = {}
        for kind, plan in plans.items():
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                for _, other in self._seeds.values():
                    other.close()
                _wait(theirs)
                become(plan, area, theirs, proc)
            theirs.close()
            self._seeds[kind] = pid, ours

    def get(self, kind: str, processes: Processes) -> Root:
        """Return a root, ready. Raises ``RootLostError``."""
        if kind not in self._roots:
            pid, voice = self._seeds[kind]
            with voice, contextlib.suppress(OSError):
                voice.settimeout(_READY_SECONDS)
                voice.send(b"go")
                listener = _listener(voice)
                words = notify.receive(listener)
                if words is not None and words.speaker == pid:
                    resting = Resting(pid, words.call)
                    self._roots[kind] = Root(kind, resting, listener, processes.address_space(pid))
        if kind not in self._roots:
            raise RootLostError(f"the {kind} interpreter did not get ready; its own words are on standard error")
        return self._roots[kind]

    def pids(self) -> set[int]:
        """Return the processes of all roots, ready or not."""
        return {pid for pid, _ in self._seeds.values()}


def _wait(voice: socket.socket) -> None:
    if not voice.recv(2):
        os._exit(0)


def _listener(voice: socket.socket) -> int:
    """Return the listener that a root sends when it is ready. Raises ``OSError``."""
    descriptors = array.array("i")
    _, ancillary, _, _ = voice.recvmsg(16, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: descriptors.itemsize])
    if not descriptors:
        raise OSError("no listener")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]
