# Leaves through the C library's exit, with the code of a good end.
# expect: crashed
import ctypes
ctypes.CDLL(None).exit(0)
