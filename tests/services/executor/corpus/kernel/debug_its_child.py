# Debugs a child of its own, whose system calls it could rewrite.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
import time
number = {"x86_64": 101, "aarch64": 117}.get(platform.machine(), -1)
child = os.fork()
if child == 0:
    time.sleep(10)
    os._exit(0)
print("LEAKED" if libc.syscall(number, 16, child, 0, 0) >= 0 else "refused")
