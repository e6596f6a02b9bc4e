# Replaces the hook for exceptions, to turn a failure into a good end.
# expect: exception
import os, sys
sys.excepthook = lambda *_: os._exit(0)
sys.unraisablehook = sys.excepthook
1 / 0
