# Connects over TCP.
# expect: ok
# stdout: refused
import socket
try:
    socket.create_connection(('127.0.0.1', 22), timeout=1)
    print('LEAKED')
except OSError:
    print('refused')
