# Changes how the kernel treats it: no randomised addresses, readable means executable, 32-bit uname.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 135, "aarch64": 92}.get(platform.machine(), -1)
for arguments in [(0x0040000,), (0x0400000,), (0x8,), (0x0000000,), (0x4000000,)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
