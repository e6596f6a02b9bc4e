# Compares resources of other processes, to learn addresses of the kernel's.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 312, "aarch64": 272}.get(platform.machine(), -1)
for arguments in [(os.getppid(), os.getpid(), 0, 0, 0), (1, os.getpid(), 1, 0, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
