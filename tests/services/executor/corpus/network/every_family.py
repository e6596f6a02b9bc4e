# Tries sockets of every family and type.
# expect: ok
# stdout: refused
import socket
for family in range(46):
    for kind in (1, 2, 3, 4, 5, 10):
        try:
            socket.socket(family, kind, 0).close()
            print("LEAKED", family, kind)
        except OSError:
            pass
print("refused")
