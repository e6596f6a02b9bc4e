# Takes memory bit by bit.
# expect: memory
# limits: memory_mib=96
x = []
while True: x.append('a' * 10**5)
