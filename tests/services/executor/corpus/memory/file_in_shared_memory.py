# A file in /dev/shm: memory that outlives every process.
# expect: ok
# stdout: refused
try:
    with open("/dev/shm/rstar-corpus-file", "wb") as file:
        file.write(bytes(1 << 20))
    print("LEAKED")
except OSError:
    print("refused")
