# Stops itself: it neither runs nor ends.
# expect: timeout
# limits: seconds=0.3
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
