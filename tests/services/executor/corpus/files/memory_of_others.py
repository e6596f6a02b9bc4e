# Opens the memory of other processes.
# expect: ok
# stdout: refused
import os
for pid in {1, 2, os.getppid(), os.getpid() - 1}:
    for name in ("mem", "environ", "fd", "root/etc/passwd", "cwd", "maps"):
        for flags in (os.O_RDONLY, os.O_RDWR):
            try:
                os.open(f"/proc/{pid}/{name}", flags)
                print("LEAKED", pid, name)
            except OSError:
                pass
print("refused")
