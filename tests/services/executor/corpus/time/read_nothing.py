# Reads from a pipe that nobody writes to.
# expect: timeout
# limits: seconds=0.3
import os
r, w = os.pipe()
os.read(r, 1)
