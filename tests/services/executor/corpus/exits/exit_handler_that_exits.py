# An exit handler exits and skips all others.
# expect: crashed
import atexit, os
atexit.register(os._exit, 0)
