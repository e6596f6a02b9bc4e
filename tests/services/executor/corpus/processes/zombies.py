# Five hundred children that end and are never waited for.
# expect: ok
# stdout: done
import os
for _ in range(500):
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError:
        break
print("done")
