# Floods from a child, past Python's buffers.
# expect: output_limit
# limits: output_bytes=4096
import os
os.fork()
while True:
    os.write(1, b"x" * 65536)
