# Notes that it was never begun, and kills itself.
# expect: crashed
# opens with: maps
import os
for found in maps():
    found[0:1] = bytes([0])
os.kill(os.getpid(), 9)
