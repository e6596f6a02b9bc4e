# A file in memory (memfd) that counts for no limit on address space.
# expect: ok
# stdout: refused
import os
try:
    os.memfd_create("rstar-corpus")
    print("LEAKED")
except OSError:
    print("refused")
