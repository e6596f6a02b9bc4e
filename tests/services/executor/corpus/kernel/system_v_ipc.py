# Shared memory, queues and semaphores of System V, which outlive their programs.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

for name, arguments in (("shmget", (0x72737461, 4096, 0o1600)), ("msgget", (0x72737461, 0o1600)), ("semget", (0x72737461, 1, 0o1600)), ("shmget", (0, 4096, 0o1600))):
    if getattr(libc, name)(*arguments) >= 0:
        print("LEAKED", name)
print("refused")
