# Endless recursion with the interpreter's recursion limit lifted.
# expect: memory crashed exception timeout
# limits: memory_mib=96 seconds=1
import sys
sys.setrecursionlimit(2**31 - 1)
def f():
    return f()
f()
