# Clones a sibling: a process whose parent is the program's parent, to be taken for an interpreter.
# expect: ok
# stdout: done
import ctypes, os, platform, time
number = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
libc = ctypes.PyDLL(None, use_errno=True)
if libc.syscall(number, 0x8000 | 17, 0, 0, 0, 0) == 0:
    time.sleep(1000)
print("done")
