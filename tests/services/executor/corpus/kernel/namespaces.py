# Enters new namespaces, of each kind.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 272, "aarch64": 97}.get(platform.machine(), -1)
for arguments in [(0x10000000,), (0x20000,), (0x20000000,), (0x8000000,), (0x40000000,), (0x4000000,), (0x2000000,), (0x80,), (0x10020000,), (0x7E020000,)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
