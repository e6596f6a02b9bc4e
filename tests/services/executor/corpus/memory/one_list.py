# One list too large.
# expect: memory
# limits: memory_mib=96
x = [0] * 10**9
