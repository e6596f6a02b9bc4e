# Bytes one by one, to keep the reader busy.
# expect: output_limit timeout
# limits: output_bytes=20000 seconds=2
import os
while True:
    os.write(1, b"x")
