# Listens over TCP.
# expect: ok
# stdout: refused
import socket
try:
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    s.listen()
    print('LEAKED')
except OSError:
    print('refused')
