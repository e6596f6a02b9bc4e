# Installs a filter of system calls of its own, to deceive the runner about their results.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)
for arguments in [(0, 0, 0), (1, 0, 0), (2, 0, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
