# Sends itself SIGTERM.
# expect: crashed
import os
os.kill(os.getpid(), 15)
