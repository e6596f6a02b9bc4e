# Clones a child whose death signals its parent with SIGKILL.
# expect: ok crashed
# stdout: survived
import ctypes, os, platform
number = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
libc = ctypes.PyDLL(None, use_errno=True)
child = libc.syscall(number, 0x8000 | 9, 0, 0, 0, 0)  # CLONE_PARENT and SIGKILL
if child == 0:
    os._exit(0)
print("survived")
