# Looks at itself through /proc: memory, descriptors, the root, the maps.
# expect: ok
# stdout: refused
import os
for name in ("environ", "maps", "mem", "cmdline", "root", "fd", "fd/0", "exe", "task", "ns", "status"):
    for base in ("/proc/self", f"/proc/{os.getpid()}", "/proc/thread-self"):
        try:
            descriptor = os.open(f"{base}/{name}", os.O_RDONLY)
            os.close(descriptor)
            print("LEAKED", base, name)
        except OSError:
            pass
print("refused")
