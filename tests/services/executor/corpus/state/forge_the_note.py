# Finds the memory shared with the warden, records success there, then fails.
# expect: exception ok
# opens with: maps
for found in maps():
    found[0:1] = bytes([2])
print("forged", flush=True)
1 / 0
