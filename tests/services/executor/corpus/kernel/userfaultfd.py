# Handles its page faults itself, to make the kernel wait.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 323, "aarch64": 282}.get(platform.machine(), -1)
for arguments in [(0,), (1,), (0x800,)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
