# Unmaps the shared memory without Python's knowledge.
# expect: crashed ok exception
# opens with: maps
import ctypes
libc = ctypes.CDLL(None)
for found in maps():
    address = ctypes.addressof(ctypes.c_char.from_buffer(found))
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(len(found)))
