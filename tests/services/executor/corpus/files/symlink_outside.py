# Goes outside through a symbolic link of its own.
# expect: ok
# stdout: refused
import os
for target in ("/", "/etc", "/tmp", "..", "/proc/1/root"):
    try:
        os.symlink(target, "link")
        print("LEAKED", os.listdir("link"))
    except OSError:
        pass
    try:
        open("link/rstar-corpus-file", "w").close()
        print("LEAKED", target)
    except OSError:
        pass
    try:
        os.unlink("link")
    except OSError:
        pass
print("refused")
