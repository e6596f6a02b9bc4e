# Kills the group of its parent.
# expect: ok
# stdout: survived
import os
for group in (1, 2, 3):
    try:
        os.killpg(group, 9)
    except OSError:
        pass
try:
    os.killpg(os.getpgid(os.getppid()) or 1, 9)
except OSError:
    pass
print("survived")
