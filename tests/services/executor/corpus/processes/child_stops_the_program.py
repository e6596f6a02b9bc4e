# A child stops the program and everything in its group.
# expect: timeout
# limits: seconds=0.3
import os, signal, time
if os.fork() == 0:
    os.kill(os.getppid(), signal.SIGSTOP)
    os._exit(0)
time.sleep(1000)
