# Records in shared memory that it was never started, so that the executor would retry it as its own failure.
# expect: crashed
# opens with: maps
import os
for found in maps():
    found[0:1] = bytes([0])
os._exit(1)
