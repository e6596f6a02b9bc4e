# Reads standard input to its end: it is empty, so this ends at once.
# expect: ok
# stdout: ''
import sys
print(repr(sys.stdin.read()))
