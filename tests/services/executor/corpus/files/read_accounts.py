# Reads the machine's accounts and keys.
# expect: ok
# stdout: refused
import glob, os
paths = ["/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/resolv.conf", "/etc/ssl/private", "/root/.ssh/id_rsa", "/root/.bashrc", "/etc/machine-id"]
for path in [*paths, *glob.glob("/etc/*"), *glob.glob("/home/*/*"), *glob.glob("/root/*")]:
    try:
        if os.path.isdir(path):
            os.listdir(path)
        else:
            open(path, "rb").read(1)
        print("LEAKED", path)
    except OSError:
        pass
print("refused")
