# A child prints on after the program's end.
# expect: ok output_limit
# limits: output_bytes=4096
import os
if os.fork() == 0:
    while True:
        os.write(1, b"x" * 1000)
