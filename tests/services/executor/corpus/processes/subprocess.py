# Starts a shell command the usual way.
# expect: ok
# stdout: refused
import subprocess
try:
    print("LEAKED", subprocess.run(["/bin/sh", "-c", "id"], capture_output=True).stdout)
except OSError:
    print("refused")
