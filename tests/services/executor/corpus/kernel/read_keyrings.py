# Reads keys that others left, and joins their keyrings.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 250, "aarch64": 219}.get(platform.machine(), -1)
for arguments in [(0, -4, 0, 0, 0), (1, b'rstar-corpus', 0, 0, 0), (10, -4, b'user', b'rstar-corpus', 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
