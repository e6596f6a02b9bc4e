# Asks for the ports of the machine's devices.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 172, "aarch64": -1}.get(platform.machine(), -1)
for arguments in [(3,), (1,)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
