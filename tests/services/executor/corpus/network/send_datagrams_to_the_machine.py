# Sends datagrams to unix sockets of the machine from one end of a pair.
# expect: ok exception
# stdout: refused
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for path in ("/tmp/rstar-corpus-secret/socket", "/dev/log", "/run/systemd/notify", "/run/systemd/journal/socket"):
    for send in (lambda: a.sendto(b"LEAKED", path), lambda: a.sendmsg([b"LEAKED"], [], 0, path)):
        try:
            send()
            print("LEAKED", path)
        except OSError:
            pass
print("refused")
