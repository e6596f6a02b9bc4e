# Opens an IPv6 socket.
# expect: ok
# stdout: refused
import socket
try:
    socket.socket(socket.AF_INET6)
    print('LEAKED')
except OSError:
    print('refused')
