# Maps memory that no Python object counts.
# expect: ok
# stdout: refused
# limits: memory_mib=96
import mmap
kept = []
try:
    while len(kept) < 1000:
        kept.append(mmap.mmap(-1, 10 << 20))
    print("LEAKED")
except (OSError, MemoryError):
    print("refused")
