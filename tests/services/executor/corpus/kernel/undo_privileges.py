# Tries to regain privileges that its process gave up for good.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

libc.prctl(38, 0, 0, 0, 0)
libc.prctl(23, 21, 0, 0, 0)
print("LEAKED" if libc.prctl(39, 0, 0, 0, 0) != 1 else "refused")
