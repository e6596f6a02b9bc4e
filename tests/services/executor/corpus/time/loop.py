# A plain endless loop.
# expect: timeout
# limits: seconds=0.3
while True: pass
