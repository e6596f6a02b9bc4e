# Recursion through C with the recursion limit lifted: the stack overflows first.
# expect: crashed memory exception
# limits: memory_mib=96
import sys
sys.setrecursionlimit(2**31 - 1)
class C:
    def __repr__(self):
        return repr(self)
repr(C())
