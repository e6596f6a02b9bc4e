# A chain of a million objects is destroyed at the end, one inside the other.
# expect: ok
# stdout: done
# limits: memory_mib=256
x = None
for _ in range(10**6):
    x = (x,)
del x
print("done")
