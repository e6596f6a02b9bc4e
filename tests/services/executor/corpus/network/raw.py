# Opens raw sockets and packet sockets.
# expect: ok
# stdout: refused
import socket
for family, kind, protocol in ((2, 3, 1), (2, 3, 255), (17, 3, 768), (16, 3, 0), (16, 3, 9), (38, 5, 0), (40, 1, 0)):
    try:
        socket.socket(family, kind, protocol)
        print("LEAKED", family)
    except OSError:
        pass
print("refused")
