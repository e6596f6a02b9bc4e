# Overwrites the value of the cached integer 29.
# expect: ok
# stdout: 30
import ctypes
ctypes.c_uint32.from_address(id(29) + 24).value = 30
print(14 + 15)
