# Debugs its parent, init, or asks to be debugged itself.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 101, "aarch64": 117}.get(platform.machine(), -1)
for arguments in [(16, os.getppid(), 0, 0), (0x4206, os.getppid(), 0, 0), (16, 1, 0, 0), (0, 0, 0, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
