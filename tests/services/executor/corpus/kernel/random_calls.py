# Makes every system call there is, with meaningless arguments, in children.
# expect: ok exception crashed timeout
# limits: seconds=5
import ctypes, os
libc = ctypes.PyDLL(None, use_errno=True)
for number in [*range(0, 467)]:
    child = os.fork()
    if child == 0:
        libc.alarm(1)
        os.closerange(1, 64)
        libc.syscall(number, -1, -1, -1, -1, -1, -1)
        os._exit(0)
    os.waitpid(child, 0)
print("done")
