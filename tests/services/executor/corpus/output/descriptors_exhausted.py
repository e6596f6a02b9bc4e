# Uses up every descriptor, so that nothing can be opened at its end.
# expect: ok exception
# stdout: done
import os
try:
    while True:
        os.pipe()
except OSError:
    pass
print("done")
