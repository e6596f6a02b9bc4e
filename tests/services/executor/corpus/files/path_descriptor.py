# Opens a folder with O_PATH and continues from there.
# expect: ok
# stdout: refused
import os
for path in ("/", "/etc", "..", "/proc/1/root"):
    try:
        root = os.open(path, os.O_PATH)
    except OSError:
        continue
    for name in ("etc/passwd", "passwd", "tmp/rstar-corpus-secret/token", "../etc/passwd"):
        try:
            os.open(name, os.O_RDONLY, dir_fd=root)
            print("LEAKED", path, name)
        except OSError:
            pass
print("refused")
