# Makes Landlock rules that would allow more.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 444, "aarch64": 444}.get(platform.machine(), -1)
for arguments in [(ctypes.c_char_p(b'\\xff' * 8), ctypes.c_size_t(8), 0), (None, ctypes.c_size_t(0), 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
