# Loads a program and a map into the kernel.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
for arguments in [(0, ctypes.create_string_buffer(72), 72), (5, ctypes.create_string_buffer(72), 72)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
