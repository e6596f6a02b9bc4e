# Clones a child into new namespaces.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc = ctypes.PyDLL(None, use_errno=True)
number = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
for flag in (0x10000000, 0x20000, 0x20000000, 0x8000000, 0x40000000, 0x4000000, 0x2000000, 0x7E020000):
    child = libc.syscall(number, flag | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child > 0:
        print("LEAKED", hex(flag))
print("refused")
