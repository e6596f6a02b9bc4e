"""``python -m rstar.local.die_with_parent PID SIGNAL COMMAND...``: runs COMMAND so that it ends when process PID, its parent, does.

A driver that is killed with SIGKILL cannot end its children; the kernel can (PR_SET_PDEATHSIG). Set here, in
a fresh process that then becomes the command, because code between fork and exec is unsafe beside threads. Where
the kernel cannot do it, the command runs untethered: the next run ends what the journal still names.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    parent, signal, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
