# An exception whose report needs memory when there is none left.
# expect: memory exception crashed
# limits: memory_mib=64
x = []
try:
    while True:
        x.append(bytearray(10**5))
except MemoryError:
    while True:
        try:
            x.append(bytearray(100))
        except MemoryError:
            break
    class E(Exception):
        def __str__(self):
            return "x" * 10**7
    raise E
