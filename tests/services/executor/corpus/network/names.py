# Resolves a host name.
# expect: ok
# stdout: refused
import socket
try:
    socket.getaddrinfo('example.com', 80)
    print('LEAKED')
except OSError:
    print('refused')
