# Writes to standard error without end; nobody reads it, but the limit holds for it too.
# expect: output_limit
# limits: output_bytes=4096
import sys
while True:
    sys.stderr.write("x" * 1000)
