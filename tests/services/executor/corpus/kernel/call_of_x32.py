# Makes system calls with the numbers of x32, which filters forget.
# expect: ok crashed
# machine: x86_64
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
for number in (41, 39, 520, 57):
    if libc.syscall(0x40000000 + number, 2, 1, 0) >= 0:
        print("LEAKED", number)
print("refused")
