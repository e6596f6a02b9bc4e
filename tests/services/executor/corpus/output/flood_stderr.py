# Writes to standard error without end, which nobody reads as a result.
# expect: output_limit
# limits: output_bytes=4096
import sys
while True:
    sys.stderr.write("x" * 1000)
