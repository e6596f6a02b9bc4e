# Counts what other processes do.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), -1)
for arguments in [(ctypes.create_string_buffer(bytes([1, 0, 0, 0, 120]) + bytes(115)), 0, -1, -1, 0), (ctypes.create_string_buffer(bytes([1, 0, 0, 0, 120]) + bytes(115)), -1, 0, -1, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
