# Makes another directory its root, and climbs out of it.
# expect: ok
# stdout: refused
import os
os.mkdir("jail")
try:
    os.chroot("jail")
    print("LEAKED")
except OSError:
    print("refused")
