# Makes files without names, outside its directory and in it.
# expect: ok exception
# stdout: refused
import os
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/"):
    try:
        os.open(folder, os.O_TMPFILE | os.O_RDWR)
        print("LEAKED", folder)
    except OSError:
        pass
print("refused")
