# Children that stopped themselves cannot be told to end; they are left behind.
# expect: ok
# stdout: done
import os, signal, time
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(0.05)
print("done")
