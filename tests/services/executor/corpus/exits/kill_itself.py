# Kills itself.
# expect: crashed
import os
os.kill(os.getpid(), 9)
