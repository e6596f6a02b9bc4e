# The representation of a list a million levels deep.
# expect: exception
# limits: memory_mib=256
x = []
for _ in range(10**6):
    x = [x]
repr(x)
