# Moves pages of its parent.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 279, "aarch64": 239}.get(platform.machine(), -1)
for arguments in [(os.getppid(), ctypes.c_ulong(0), None, None, None, 2), (1, ctypes.c_ulong(0), None, None, None, 4)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
