# Writes replies into every descriptor that it might have inherited.
# expect: ok
# stdout: refused
import os
for fd in range(3, 4096):
    for text in (b"ok", b"\0\0\0\2ok", b"\0" * 100, b"\0\0\0\0", b'{"status": "ok"}', b"R" + bytes(40)):
        try:
            os.write(fd, text)
            print("LEAKED", fd)
        except OSError:
            pass
print("refused")
