# Makes segments of its own for 16-bit code.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 154, "aarch64": -1}.get(platform.machine(), -1)
for arguments in [(1, ctypes.create_string_buffer(16), ctypes.c_size_t(16)), (0x11, ctypes.create_string_buffer(16), ctypes.c_size_t(16))]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
