# An endless loop in C that never returns to the interpreter.
# expect: timeout
# limits: seconds=0.3
import collections, itertools
collections.deque(itertools.repeat(None), maxlen=0)
