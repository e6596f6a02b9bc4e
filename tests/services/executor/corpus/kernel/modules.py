# Loads a module into the kernel, an empty one.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 175, "aarch64": 105}.get(platform.machine(), -1)
for arguments in [(b'', ctypes.c_size_t(0), b''), (b'x', ctypes.c_size_t(1), b'')]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
