# Uses up every descriptor, so that the runner can open nothing at its end.
# expect: ok exception
# stdout: done
import os
try:
    while True:
        os.pipe()
except OSError:
    pass
print("done")
