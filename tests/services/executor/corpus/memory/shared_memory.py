# A block of named shared memory, which would outlive the program.
# expect: ok
# stdout: refused
from multiprocessing import shared_memory
try:
    shared_memory.SharedMemory(name="rstar-corpus-shm", create=True, size=64 << 20)
    print("LEAKED")
except OSError:
    print("refused")
