# One list too large.
# expect: memory
# limits: memory_mib=96 seconds=5
x = [0] * 10**9
