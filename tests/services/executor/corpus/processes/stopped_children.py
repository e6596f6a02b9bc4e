# Leaves behind children that have stopped themselves and handle no signal.
# expect: ok
# stdout: done
import os, signal, time
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(0.05)
print("done")
