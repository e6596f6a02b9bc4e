# Listens on an abstract unix socket, which no file system holds.
# expect: ok
# stdout: refused
import socket
try:
    s = socket.socket(socket.AF_UNIX)
    s.bind('\0rstar-corpus')
    s.listen()
    print('LEAKED')
except OSError:
    print('refused')
