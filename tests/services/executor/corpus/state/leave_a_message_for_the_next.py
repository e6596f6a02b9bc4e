# Leaves a message at the far end of shared memory for a later program of its own.
# expect: ok
# opens with: maps
for found in maps():
    found[-100:-80] = b"RSTAR-CORPUS-LEFT".ljust(20, b".")
    found[200:220] = b"RSTAR-CORPUS-LEFT".ljust(20, b".")
