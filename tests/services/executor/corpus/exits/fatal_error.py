# Has the interpreter end itself for a fault of its own.
# expect: crashed
import ctypes
ctypes.pythonapi.Py_FatalError(b'x')
