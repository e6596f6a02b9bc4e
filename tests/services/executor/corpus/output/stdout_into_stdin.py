# Replaces its standard output by a pipe of its own.
# expect: ok
import os
r, w = os.pipe()
os.dup2(w, 1)
os.write(1, b"hidden")
