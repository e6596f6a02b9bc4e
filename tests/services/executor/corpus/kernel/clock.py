# Sets the machine's clock, to an invalid time, so that the call has no effect wherever it runs.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 227, "aarch64": 112}.get(platform.machine(), -1)
for arguments in [(0, (ctypes.c_long * 2)(-1, -1)), (0, None)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
