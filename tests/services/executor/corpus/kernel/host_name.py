# Sets the host name, to the present one, so that nothing changes wherever it runs.
# expect: ok
# stdout: refused
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

name = os.uname().nodename.encode()
print("LEAKED" if libc.sethostname(name, ctypes.c_size_t(len(name))) == 0 or libc.setdomainname(b"(none)", ctypes.c_size_t(6)) == 0 else "refused")
