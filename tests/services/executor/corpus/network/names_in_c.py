# Asks for a name through the C library, past Python's module.
# expect: ok
# stdout: refused
import ctypes
print("LEAKED" if ctypes.CDLL(None).gethostbyname(b"example.com") else "refused")
