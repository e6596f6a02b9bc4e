# Writes other letters into a text that all of Python shares.
# expect: ok
import ctypes, sys
text = sys.intern("random")
ctypes.memmove(id(text) + sys.getsizeof("") - 1, b"modnar", 6)
