# Puts the end of a pipe of its own in place of its output.
# expect: ok
import os
r, w = os.pipe()
os.dup2(w, 1)
os.write(1, b"hidden")
