# Makes its output non-blocking, so that writes fail half-way.
# expect: ok exception output_limit
# limits: output_bytes=1000000
import os
os.set_blocking(1, False)
print("x" * 500000)
