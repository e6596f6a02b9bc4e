# Leaves a message at the far end of the shared memory, for a program of its own that comes later.
# expect: ok
# opens with: maps
for found in maps():
    found[-100:-80] = b"RSTAR-CORPUS-LEFT".ljust(20, b".")
    found[200:220] = b"RSTAR-CORPUS-LEFT".ljust(20, b".")
