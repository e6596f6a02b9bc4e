# Makes files whose names are not UTF-8.
# expect: ok
# stdout: 6
import os
for name in (b"\xff\xfe", b"new\nline", b"-rf", b"x" * 255, b"\x1b[2J", " ".encode()):
    open(name, "w").close()
print(len(os.listdir()))
