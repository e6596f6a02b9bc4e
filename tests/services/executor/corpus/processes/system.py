# Starts a shell command through the C library.
# expect: ok
# stdout: refused
import os
print("LEAKED" if os.system("exit 0") == 0 else "refused")
