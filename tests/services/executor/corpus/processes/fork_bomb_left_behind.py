# Leaves hundreds of sleeping processes behind and ends at once.
# expect: ok
# stdout: done
import os, time
parent = os.getpid()
for _ in range(8):
    try:
        os.fork()
    except OSError:
        break
if os.getpid() != parent:
    time.sleep(1000)
print("done")
