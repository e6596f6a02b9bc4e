# Leaves a trace function that raises in whatever runs next.
# expect: ok exception crashed
import sys
def trace(*_):
    raise RuntimeError("no")
sys.settrace(trace)
