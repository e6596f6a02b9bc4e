# Calls os._exit(1), which skips every handler.
# expect: crashed
import os
os._exit(1)
