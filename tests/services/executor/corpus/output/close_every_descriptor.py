# Closes every descriptor, those of its own result included, and goes on.
# expect: ok
import os
os.closerange(0, 4096)
