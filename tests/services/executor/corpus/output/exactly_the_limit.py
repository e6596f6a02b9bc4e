# Prints as much as is allowed, and no more.
# expect: ok
# limits: output_bytes=4096
import sys
sys.stdout.write("x" * 4096)
