# Asks for the address of a name.
# expect: ok
# stdout: refused
import socket
try:
    socket.getaddrinfo('example.com', 80)
    print('LEAKED')
except OSError:
    print('refused')
