# Finalises the interpreter under the runner.
# expect: crashed ok
import ctypes
ctypes.PyDLL(None).Py_FinalizeEx()
