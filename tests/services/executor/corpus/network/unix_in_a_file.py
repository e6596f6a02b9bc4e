# Listens on a unix socket in its directory.
# expect: ok
# stdout: refused
import socket
try:
    s = socket.socket(socket.AF_UNIX)
    s.bind('sock')
    s.listen()
    print('LEAKED')
except OSError:
    print('refused')
