# Clones by the newer call, whose flags a filter cannot see.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc = ctypes.PyDLL(None, use_errno=True)
for flags in (0x10000000, 0x10020000, 0x200000000):
    arguments = (ctypes.c_uint64 * 11)(flags, 0, 0, 0, 17)
    child = libc.syscall(435, arguments, ctypes.c_size_t(88))
    if child == 0:
        os._exit(0)
    if child > 0:
        print("LEAKED", hex(flags))
print("refused")
