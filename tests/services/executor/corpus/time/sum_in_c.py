# A loop in C that never checks signals.
# expect: timeout
# limits: seconds=0.3
sum(range(10**15))
