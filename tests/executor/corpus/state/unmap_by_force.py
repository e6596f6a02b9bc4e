# Unmaps the shared memory below Python.
# expect: crashed ok exception
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

import ctypes
libc = ctypes.CDLL(None)
for found in maps():
    address = ctypes.addressof(ctypes.c_char.from_buffer(found))
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(len(found)))
