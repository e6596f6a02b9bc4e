"""``python -m rstar_testbed.node.init FOLDER``: process 1 of the node's namespaces; reaps orphans until it is killed.

Containers' supervisors leave their parents, and only process 1 can collect them. When it ends, the kernel kills everything
in its PID namespace, and the mounts and interfaces of the node disappear with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

READY: Final = "init-ready"
PRIVATE: Final = ("/run", "/var/lib", "/var/log")
"""Folders of the machine that the node's programs write to by fixed names: each is the node's own."""

_PROGRAM_STATE: Final = ("cni", "containerd", "kubelet")


def main(folder: Path) -> None:
    """Give the node its own folders, say so by a file, and collect ended processes for ever."""
    for path in PRIVATE:
        own = folder / path.strip("/").replace("/", "-")
        own.mkdir(exist_ok=True)
        _run("mount", "--bind", str(own), path)
    for name in _PROGRAM_STATE:
        Path("/var/lib", name).mkdir(exist_ok=True)
    for setting, value in {"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "0"}.items():
        Path("/proc/sys", setting).write_text(value)
    _run("ip", "link", "set", "lo", "up")
    (folder / READY).touch()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        while True:
            try:
                number, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if number == 0:
                break


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
