# Exits with success.
# expect: ok
# stdout: 1
import sys
print(1)
sys.exit(0)
