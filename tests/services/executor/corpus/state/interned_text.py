# Overwrites the characters of an interned string.
# expect: ok
import ctypes, sys
text = sys.intern("random")
ctypes.memmove(id(text) + sys.getsizeof("") - 1, b"modnar", 6)
