# A pair of unix sockets is allowed, and must lead nowhere: it can neither connect nor bind.
# expect: ok exception
# stdout: refused
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for attack in (
    lambda: a.connect("/run/systemd/notify"),
    lambda: a.sendto(b"x", "/dev/log"),
    lambda: a.bind("\0rstar-corpus-pair"),
    lambda: a.sendto(b"x", "\0rstar-corpus-nobody"),
    lambda: a.listen(),
):
    try:
        attack()
        print("LEAKED")
    except OSError:
        pass
print("refused")
