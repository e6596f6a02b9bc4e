# Reads from a pipe into which nothing is written.
# expect: timeout
# limits: seconds=0.3
import os
r, w = os.pipe()
os.read(r, 1)
