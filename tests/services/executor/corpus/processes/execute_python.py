# Executes the interpreter's own file, found wherever it may be.
# expect: ok
# stdout: refused
import os, sys
paths = {sys.executable, os.path.realpath(sys.executable or "/"), "/proc/self/exe", "/usr/bin/python3", "/lib64/ld-linux-x86-64.so.2"}
for path in paths:
    try:
        os.execv(path, [path, "-c", "print('LEAKED')"])
    except OSError:
        pass
print("refused")
