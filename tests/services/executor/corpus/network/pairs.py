# Pairs of sockets of other families than unix.
# expect: ok
# stdout: refused
import socket
for family in (2, 10, 16, 30):
    for kind in (1, 2, 5):
        try:
            socket.socketpair(family, kind)
            print("LEAKED", family)
        except OSError:
            pass
print("refused")
