# Reads and clears the kernel's log.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 103, "aarch64": 116}.get(platform.machine(), -1)
for arguments in [(2, ctypes.create_string_buffer(10), 10), (3, ctypes.create_string_buffer(10), 10), (10, 0, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
