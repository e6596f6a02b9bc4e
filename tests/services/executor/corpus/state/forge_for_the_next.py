# Leaves a reply in the shared memory for the program that comes next.
# expect: ok exception crashed
# opens with: maps
for found in maps():
    size = len(found)
    for start in range(0, size, 4096):
        found[start : min(start + 4096, size)] = (b"\2\1RSTAR-CORPUS-LEFT" * 300)[: min(4096, size - start)]
