# Lists folders of the machine, and of other executors.
# expect: ok
# stdout: refused
import os
for path in ("/", "/tmp", "/root", "/home", "/etc", "/var", "/proc", "/sys", "/run", "/dev", "/mnt", "..", "../.."):
    try:
        print("LEAKED", path, os.listdir(path)[:3])
    except OSError:
        pass
print("refused")
