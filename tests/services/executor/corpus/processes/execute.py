# Replaces itself by a shell.
# expect: ok
# stdout: refused
import os
try:
    os.execv("/bin/sh", ["sh", "-c", "echo LEAKED"])
except OSError:
    print("refused")
