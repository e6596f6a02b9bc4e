# Leaves as a good program does.
# expect: ok
# stdout: 1
import sys
print(1)
sys.exit(0)
