# Closes and shrinks the memory shared with the warden.
# expect: ok exception crashed
# opens with: maps
for found in maps():
    for attack in (lambda: found.resize(4096), lambda: found.madvise(mmap.MADV_REMOVE), lambda: found.madvise(mmap.MADV_DONTNEED), found.close):
        try:
            attack()
        except Exception:
            pass
