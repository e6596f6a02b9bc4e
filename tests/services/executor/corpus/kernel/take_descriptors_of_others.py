# Takes an open descriptor out of another process.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

for fd in range(16):
    if libc.syscall(438, fd, 0, 0) >= 0 or libc.syscall(424, fd, 9, 0, 0) >= 0 or libc.syscall(440, fd, 0, 0, 21, 0) >= 0:
        print("LEAKED", fd)
print("refused")
