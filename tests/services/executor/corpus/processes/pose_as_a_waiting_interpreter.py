# Makes the call by which interpreters wait, to get the next program's command.
# expect: ok exception
# stdout: refused
import os
for said in (0, 1, 2, os.getpid(), os.getppid(), -1, -12):
    try:
        print("LEAKED", os.sched_rr_get_interval(said))
    except OSError:
        pass
print("refused")
