# Types into the terminal from which the executor was started.
# expect: ok
# stdout: refused
import fcntl, termios
for fd in (0, 1, 2):
    for request, argument in ((termios.TIOCSTI, b"x"), (0x541C, b"\x0b\0"), (termios.TIOCSCTTY, 0), (termios.TIOCNOTTY, 0)):
        try:
            fcntl.ioctl(fd, request, argument)
            print("LEAKED", fd)
        except OSError:
            pass
print("refused")
