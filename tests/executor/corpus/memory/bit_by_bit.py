# Takes memory bit by bit.
# expect: memory
# limits: memory_mib=96 seconds=5
x = []
while True: x.append('a' * 10**5)
