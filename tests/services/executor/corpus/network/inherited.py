# Looks for sockets among the descriptors it was given.
# expect: ok
# stdout: refused
import os, stat
for fd in range(1024):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            print("LEAKED", fd)
    except OSError:
        pass
print("refused")
