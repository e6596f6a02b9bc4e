# Opens files by their handles, past every path.
# expect: ok
# stdout: refused
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
handle = (ctypes.c_char * 136)()
ctypes.c_uint.from_buffer(handle).value = 128
mount = ctypes.c_int()
print("LEAKED" if libc.name_to_handle_at(-100, b"/", handle, ctypes.byref(mount), 0) == 0 and libc.open_by_handle_at(3, handle, 0) >= 0 else "refused")
