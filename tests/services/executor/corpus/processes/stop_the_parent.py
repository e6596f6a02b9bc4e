# Stops the process that watches it, so that nothing would end it.
# expect: timeout
# limits: seconds=0.3
import os, signal
for pid in {os.getppid(), 1, 2, 3, os.getpid() - 1}:
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        pass
while True:
    pass
