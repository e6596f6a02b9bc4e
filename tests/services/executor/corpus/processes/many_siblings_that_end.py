# Clones siblings that end at once, to confuse whoever waits for children.
# expect: ok
# stdout: done
import ctypes, os, platform
number = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
libc = ctypes.PyDLL(None, use_errno=True)
for k in range(100):
    if libc.syscall(number, 0x8000 | 17, 0, 0, 0, 0) == 0:
        os._exit(k)
print("done")
