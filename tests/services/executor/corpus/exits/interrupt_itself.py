# Interrupts itself.
# expect: exception crashed ok timeout
# limits: seconds=0.3
import os, time
os.kill(os.getpid(), 2)
time.sleep(1000)
