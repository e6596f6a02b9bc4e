# Loads another kernel, from invalid descriptors.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 320, "aarch64": 294}.get(platform.machine(), -1)
for arguments in [(-1, -1, ctypes.c_ulong(0), b'', ctypes.c_ulong(0)), (0, 0, ctypes.c_ulong(0), b'', ctypes.c_ulong(1))]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
