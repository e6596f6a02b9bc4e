# Swallows every MemoryError and asks again.
# expect: timeout memory
# limits: memory_mib=96 seconds=0.3
x = []
while True:
    try:
        x.append(bytearray(10**6))
    except MemoryError:
        pass
