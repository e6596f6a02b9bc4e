# Finds memory that is shared with the watcher and notes a good end there, then fails.
# expect: exception ok
# opens with: maps
for found in maps():
    found[0:1] = bytes([2])
print("forged", flush=True)
1 / 0
