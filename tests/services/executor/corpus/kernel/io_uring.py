# Sets up io_uring, through which calls pass unseen by filters.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
number = 425
for arguments in [(8, ctypes.create_string_buffer(120))]:
    if libc.syscall(number, *arguments) >= 0:
        print("LEAKED", arguments)
print("refused")
