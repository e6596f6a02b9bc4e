# Opens devices, and makes some of its own.
# expect: ok
# stdout: refused
import os, stat
for path in ("/dev/mem", "/dev/kmem", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/ptmx", "/dev/full", "/dev/net/tun"):
    for flags in (os.O_RDONLY, os.O_RDWR):
        try:
            os.open(path, flags)
            print("LEAKED", path)
        except OSError:
            pass
for kind, device in ((stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFSOCK, 0)):
    try:
        os.mknod("node", 0o600 | kind, device)
        print("LEAKED", kind)
    except OSError:
        pass
print("refused")
