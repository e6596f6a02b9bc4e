# Patches the functions by which the runner may exit.
# expect: exception crashed
import os, sys
os._exit = sys.exit = os.abort = os.kill = lambda *_: None
1 / 0
