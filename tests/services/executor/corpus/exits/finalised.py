# Finalises the interpreter while the runner still uses it.
# expect: crashed ok
import ctypes
ctypes.PyDLL(None).Py_FinalizeEx()
