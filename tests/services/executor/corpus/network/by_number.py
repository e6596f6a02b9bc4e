# Opens a socket by the system call itself.
# expect: ok
# stdout: refused
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 41, "aarch64": 198}.get(platform.machine(), -1)
print("LEAKED" if any(libc.syscall(number, family, kind, 0) >= 0 for family in (1, 2, 10, 16, 17, 38, 40) for kind in (1, 2, 3)) else "refused")
