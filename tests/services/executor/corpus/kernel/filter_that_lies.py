# Installs a filter that answers every later call with success.
# expect: ok exception crashed timeout
# stdout: refused
# limits: seconds=1
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

import struct
program = struct.pack("=HBBI", 0x06, 0, 0, 0x00050000)  # every call returns 0 and does nothing
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
filter = Filter(1, ctypes.addressof(buffer))
number = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)
print("LEAKED" if libc.syscall(number, 1, 0, ctypes.byref(filter)) == 0 else "refused", flush=True)
