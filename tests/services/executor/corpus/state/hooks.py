# Leaves hooks for tracing, profiling, auditing, importing and displaying.
# expect: ok
import builtins, sys, threading
sys.setprofile(lambda *_: None)
threading.setprofile(lambda *_: None)
sys.displayhook = sys.excepthook = sys.unraisablehook = threading.excepthook = lambda *_: None
sys.addaudithook(lambda *_: None)
builtins.__import__ = lambda *_, **__: 1 / 0
