# Keeps a secret in a keyring of the kernel, for the next program of the same user.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 248, "aarch64": 217}.get(platform.machine(), -1)
for arguments in [(b'user', b'rstar-corpus', b'x', ctypes.c_size_t(1), -1), (b'user', b'rstar-corpus', b'x', ctypes.c_size_t(1), -4), (b'user', b'rstar-corpus', b'x', ctypes.c_size_t(1), -5)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
