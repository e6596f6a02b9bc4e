# Notes in the shared memory that it was never begun, so that the executor takes the blame and tries it again.
# expect: crashed
# opens with: maps
import os
for found in maps():
    found[0:1] = bytes([0])
os._exit(1)
