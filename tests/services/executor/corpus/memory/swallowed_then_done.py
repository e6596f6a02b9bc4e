# Swallows a MemoryError and goes on as if nothing were.
# expect: ok
# stdout: refused
# limits: memory_mib=96
try:
    x = bytearray(10**10)
except MemoryError:
    print("refused")
