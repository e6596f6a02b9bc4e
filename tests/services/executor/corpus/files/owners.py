# Gives its files to others, and sets bits that give rights.
# expect: ok
# stdout: done
import os
open("f", "w").close()
for attack in (lambda: os.chown("f", 0, 0), lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.seteuid(0)):
    try:
        attack()
        print("LEAKED") if os.stat("f").st_uid == 0 and os.getuid() != 0 else None
    except OSError:
        pass
try:
    os.chmod("f", 0o6777)
except OSError:
    pass
print("done")
