# Catches a MemoryError and continues as if nothing had happened.
# expect: ok
# stdout: refused
# limits: memory_mib=96
try:
    x = bytearray(10**10)
except MemoryError:
    print("refused")
