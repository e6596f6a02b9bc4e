# Replaces the hook for uncaught exceptions, to turn a failure into success.
# expect: exception
import os, sys
sys.excepthook = lambda *_: os._exit(0)
sys.unraisablehook = sys.excepthook
1 / 0
