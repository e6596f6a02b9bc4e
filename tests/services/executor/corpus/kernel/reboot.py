# Reboots, with numbers that the kernel does not know, so that the call has no effect wherever it runs.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 169, "aarch64": 142}.get(platform.machine(), -1)
for arguments in [(0, 0, 0, 0), (-18751827, 0, 0, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
