# Memory that even the kernel cannot read (memfd_secret).
# expect: ok
# stdout: refused
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
print("LEAKED" if libc.syscall(447, 0) >= 0 else "refused")
