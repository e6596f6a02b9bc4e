# Switches the machine's swap and accounting to files of its own.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = {"x86_64": 163, "aarch64": 89}.get(platform.machine(), -1)
for arguments in [(b'acct',), (b'/dev/null',)]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
