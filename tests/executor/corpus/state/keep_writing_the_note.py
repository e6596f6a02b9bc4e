# A child keeps writing into the shared memory after the program's end, into the next program's note.
# expect: ok
# stdout: done
import sys
def above():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back

import gc, mmap
def maps():
    found, waiting, seen = [], [value for frame in above() for value in (*frame.f_locals.values(), *frame.f_globals.values())], set()
    while waiting and len(seen) < 200000:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, mmap.mmap):
            found.append(value)
        waiting.extend(gc.get_referents(value))
    return found

import os
found = maps()
if os.fork() == 0:
    os.setsid()
    while True:
        for item in found:
            item[0:2] = b"\2\1"
print("done")
