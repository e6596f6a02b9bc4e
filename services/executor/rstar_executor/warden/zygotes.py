"""The zygotes of a warden: light, which is loaded at the start, heavy and scipy, which are loaded on first use.

All are forked before the warden has seen a program, so that no program can find another's text in its memory. A zygote
that is lost is not replaced: the whole warden is.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from rstar_executor.interpreter.shared_memory import REASON_BYTES, SharedMemory
from rstar_executor.interpreter.zygote import ZygoteSettings, become
from rstar_executor.sandbox import notify
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.snapshots import Snapshot

_READY_SECONDS = 60.0


class ZygoteLostError(Exception):
    """A zygote did not become ready, or is gone; the text says why."""


@dataclass
class Zygote:
    """One zygote: its process as a snapshot of no steps, the listener of all its forks, its bytes of address space."""

    kind: str
    snapshot: Snapshot
    listener: int
    own_bytes: int


class Zygotes:
    """The zygotes of all kinds in ``settings``; forked now, loaded on first use."""

    def __init__(self, settings: Mapping[str, ZygoteSettings], memory: SharedMemory, proc: int) -> None:
        self._forked: dict[str, tuple[int, socket.socket]] = {}
        self._ready: dict[str, Zygote] = {}
        for kind, own_settings in settings.items():
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                for _, other in self._forked.values():
                    other.close()
                _wait_for_start(theirs)
                become(own_settings, memory, theirs, proc)
            theirs.close()
            self._forked[kind] = pid, ours

    def get(self, kind: str, processes: Processes) -> Zygote:
        """Return a zygote that is ready. Raises ``ZygoteLostError``."""
        if kind not in self._ready:
            pid, channel = self._forked[kind]
            with channel, contextlib.suppress(OSError):
                channel.settimeout(_READY_SECONDS)
                channel.send(b"go")
                listener = _receive_listener(channel)
                notification = notify.wait(listener, _READY_SECONDS)
                if notification is not None and notification.pid == pid:
                    snapshot = Snapshot(pid, notification.id)
                    self._ready[kind] = Zygote(kind, snapshot, listener, processes.address_space(pid))
        if kind not in self._ready:
            raise ZygoteLostError(f"the {kind} zygote did not become ready in {_READY_SECONDS:g} s")
        return self._ready[kind]

    def pids(self) -> set[int]:
        """Return the processes of all zygotes, ready or not."""
        return {pid for pid, _ in self._forked.values()}


def _wait_for_start(channel: socket.socket) -> None:
    if not channel.recv(2):
        os._exit(0)


def _receive_listener(channel: socket.socket) -> int:
    """Return the listener that a zygote sends when it is ready.

    Raises ``ZygoteLostError`` with the reason that a zygote sends when it cannot be, and ``OSError``.
    """
    descriptors = array.array("i")
    message, ancillary, _, _ = channel.recvmsg(REASON_BYTES, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: descriptors.itemsize])
    if not descriptors:
        raise ZygoteLostError(message.decode(errors="replace") or "a zygote has died while it was loaded")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]
