# Makes the interpreter abort with a fatal error.
# expect: crashed
import ctypes
ctypes.pythonapi.Py_FatalError(b'x')
