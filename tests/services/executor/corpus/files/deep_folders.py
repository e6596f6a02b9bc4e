# Folders a thousand levels deep, longer than any path.
# expect: ok
# stdout: done
import os
try:
    for _ in range(500):
        os.mkdir("deep" * 10)
        os.chdir("deep" * 10)
except OSError:
    pass
print("done")
