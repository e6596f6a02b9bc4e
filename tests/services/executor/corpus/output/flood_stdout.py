# Prints without end.
# expect: output_limit
# limits: output_bytes=4096
while True: print('x' * 1000)
