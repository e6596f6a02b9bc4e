# Maps a terabyte that would be taken page by page.
# expect: ok
# stdout: refused
# limits: memory_mib=96
import mmap
try:
    mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    print("LEAKED")
except (OSError, MemoryError):
    print("refused")
