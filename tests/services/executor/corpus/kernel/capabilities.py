# Takes capabilities that it does not have.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

header = (ctypes.c_uint32 * 2)(0x20080522, 0)
everything = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
libc.capset(header, everything)
held = (ctypes.c_uint32 * 6)(*[1] * 6)
if libc.capget(header, held) == 0 and any(held[k] for k in (0, 1, 3, 4)):
    print("LEAKED")
print("refused")
