# Locks its memory, so that the machine cannot swap it out.
# expect: ok
# stdout: refused
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print("LEAKED" if libc.mlockall(3) == 0 else "refused")
