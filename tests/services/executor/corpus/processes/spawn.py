# Starts a program with posix_spawn, which needs no fork by Python.
# expect: ok
# stdout: refused
import os
try:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    print("LEAKED" if os.waitpid(pid, 0)[1] == 0 else "refused")
except OSError:
    print("refused")
