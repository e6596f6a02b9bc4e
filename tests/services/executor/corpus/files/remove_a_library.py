# Removes, renames and links over modules of the standard library.
# expect: ok
# stdout: refused
import os
path = os.path.dirname(os.__file__)
for attack in (
    lambda: os.unlink(f"{path}/this.py"),
    lambda: os.rename(f"{path}/this.py", f"{path}/that.py"),
    lambda: os.symlink("/etc/passwd", f"{path}/rstar-corpus-link"),
    lambda: os.rmdir(f"{path}/json"),
    lambda: os.mkdir(f"{path}/rstar-corpus-folder"),
    lambda: os.chmod(f"{path}/this.py", 0o777),
    lambda: os.utime(f"{path}/this.py"),
    lambda: os.truncate(f"{path}/this.py", 0),
    lambda: os.setxattr(f"{path}/this.py", "user.x", b"x"),
):
    try:
        attack()
        print("LEAKED")
    except OSError:
        pass
print("refused")
