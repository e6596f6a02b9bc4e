# Sends SIGKILL to every process it may signal.
# expect: ok
# stdout: survived
import os
try:
    os.kill(-1, 9)
except OSError:
    pass
print("survived")
