# Sends a datagram.
# expect: ok
# stdout: refused
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))
    print('LEAKED')
except OSError:
    print('refused')
