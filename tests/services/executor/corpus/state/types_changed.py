# Changes a builtin type through its dictionary, which Python forbids.
# expect: ok exception crashed
import ctypes, gc
for referent in gc.get_referents(vars(list)):
    if isinstance(referent, dict):
        referent["append"] = lambda *_: None
try:
    gc.get_referents(vars(str))[0]["join"] = lambda *_: "LEAKED"
except Exception:
    pass
ctypes.pythonapi.PyType_Modified(ctypes.py_object(list))
