# A child keeps writing into shared memory after the program's end, during the next program.
# expect: ok
# stdout: done
# opens with: maps
import os
found = maps()
if os.fork() == 0:
    os.setsid()
    while True:
        for item in found:
            item[0:2] = b"\2\1"
print("done")
