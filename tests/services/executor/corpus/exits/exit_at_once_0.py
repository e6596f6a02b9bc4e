# Leaves past every handler, with the code of a good end: its output may be lost, so it is none.
# expect: crashed
import os
os._exit(0)
