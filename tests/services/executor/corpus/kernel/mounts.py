# Mounts, unmounts and moves file systems, the old way and the new.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

os.mkdir("m")
for attack in (
    lambda: libc.mount(b"none", b"m", b"tmpfs", ctypes.c_ulong(0), None),
    lambda: libc.mount(b"/", b"m", None, ctypes.c_ulong(4096), None),
    lambda: libc.mount(b"proc", b"m", b"proc", ctypes.c_ulong(0), None),
    lambda: libc.mount(b"none", b"/", None, ctypes.c_ulong(32 | 4096), None),
    lambda: libc.umount2(b"/", 2),
    lambda: libc.umount2(b"/dev", 2),
    lambda: libc.syscall({"x86_64": 155, "aarch64": 41}.get(platform.machine(), -1), b".", b"."),
    lambda: libc.syscall(428, -100, b"/", 1),
    lambda: libc.syscall(430, b"tmpfs", 0),
    lambda: libc.syscall(442, -100, b"/", 0, None, ctypes.c_size_t(0)),
):
    if attack() >= 0:
        print("LEAKED")
print("refused")
