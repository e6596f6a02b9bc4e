# One operation on huge integers.
# expect: timeout memory
# limits: seconds=0.3
x = 9 ** 10 ** 9
