# Reads standard input to its end: there is none, so it ends at once.
# expect: ok
# stdout: ''
import sys
print(repr(sys.stdin.read()))
