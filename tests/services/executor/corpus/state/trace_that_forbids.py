# Leaves a trace function that raises in the next code that runs.
# expect: ok exception crashed
import sys
def trace(*_):
    raise RuntimeError("no")
sys.settrace(trace)
