# One line of a hundred megabytes.
# expect: output_limit memory
# limits: output_bytes=4096 memory_mib=256
import sys
sys.stdout.write("x" * (100 << 20))
