# Resolves a host name through the C library, without Python's socket module.
# expect: ok
# stdout: refused
import ctypes
print("LEAKED" if ctypes.CDLL(None).gethostbyname(b"example.com") else "refused")
