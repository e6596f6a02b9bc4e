# Takes every descriptor and all processor time from its parent, by limits.
# expect: ok
# stdout: refused
import os, resource
for pid in (os.getppid(), 1, 2):
    for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_NPROC):
        try:
            resource.prlimit(pid, which, (1, 1))
            print("LEAKED", pid)
        except OSError:
            pass
print("refused")
