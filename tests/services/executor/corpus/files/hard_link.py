# Links a file of the machine into its directory.
# expect: ok
# stdout: refused
import os
for path in ("/etc/passwd", "/etc/shadow", os.__file__, "/tmp/rstar-corpus-secret/token"):
    try:
        os.link(path, "here")
        print("LEAKED", path)
    except OSError:
        pass
print("refused")
