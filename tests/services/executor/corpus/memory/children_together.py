# Sixteen children that each take as much as one program may have.
# expect: ok
# stdout: done
# limits: memory_mib=96
import os, time
children = []
for _ in range(8):  # at most 800 MB together, wherever it runs
    pid = os.fork()
    if pid == 0:
        try:
            x = bytearray(40 << 20)
            x[:] = b"x" * len(x)
        except MemoryError:
            pass
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print("done")
