# Sets options of its process that would loosen a layer: seccomp, secure bits, memory map, capabilities.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 157, "aarch64": 167}.get(platform.machine(), -1)
for arguments in [(22, 0, 0, 0, 0), (28, 0, 0, 0, 0), (35, 1, 0, 0, 0), (47, 2, 21, 0, 0), (8, 1, 0, 0, 0), (4, 2, 0, 0, 0), (0x59616D61, -1, 0, 0, 0), (36, 1, 0, 0, 0)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
