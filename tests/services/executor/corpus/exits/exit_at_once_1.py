# Leaves past every handler.
# expect: crashed
import os
os._exit(1)
