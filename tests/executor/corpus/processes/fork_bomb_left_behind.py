# Leaves a thousand sleeping processes behind and ends at once.
# expect: ok
# stdout: done
import os, time
parent = os.getpid()
for _ in range(10):
    try:
        os.fork()
    except OSError:
        break
if os.getpid() != parent:
    time.sleep(1000)
print("done")
