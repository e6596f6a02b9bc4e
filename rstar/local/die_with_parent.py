"""``python -m rstar.local.die_with_parent PID SIGNAL COMMAND...``: runs COMMAND; it gets SIGNAL when its parent PID ends.

A driver that is killed with SIGKILL cannot end its children; the kernel can (PR_SET_PDEATHSIG). It is set in a fresh
process that then executes the command, because code between fork and exec is unsafe beside threads. Where the kernel
lacks it (not Linux), the command may outlive the driver; the next run ends it by the journal.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Set the signal for the parent's death and execute the command."""
    parent, number, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        # The parent may have ended before the call.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
