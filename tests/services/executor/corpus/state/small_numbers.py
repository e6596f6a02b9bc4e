# Writes another value into the number 29, which all of Python shares.
# expect: ok
# stdout: 30
import ctypes
ctypes.c_uint32.from_address(id(29) + 24).value = 30
print(14 + 15)
