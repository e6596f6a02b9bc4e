# Exits with success through the C library's exit.
# expect: crashed
import ctypes
ctypes.CDLL(None).exit(0)
