# Looks for the warden's seccomp listener, and replies to its own calls.
# expect: ok
# stdout: refused
import fcntl
for fd in range(1024):
    for request in (0xC0502100, 0xC0182101, 0x40182103, 0x40082102):
        try:
            fcntl.ioctl(fd, request, bytearray(80))
            print("LEAKED", fd)
        except OSError:
            pass
print("refused")
