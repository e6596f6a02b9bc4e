# Reads and writes the memory of its parent.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
text = ctypes.create_string_buffer(8)
here = Vector(ctypes.addressof(text), 8)
for pid in {os.getppid(), 1, 2, os.getpid()}:
    for name in ("process_vm_readv", "process_vm_writev"):
        if getattr(libc, name)(pid, ctypes.byref(here), 1, ctypes.byref(here), 1, 0) >= 0:
            print("LEAKED", pid)
print("refused")
