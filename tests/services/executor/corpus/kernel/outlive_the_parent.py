# Clears the signal that ends it with its parent.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

print("LEAKED" if libc.prctl(1, 0, 0, 0, 0) == 0 else "refused")
