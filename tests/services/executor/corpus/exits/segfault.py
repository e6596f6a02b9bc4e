# Reads an address where nothing is mapped.
# expect: crashed
import ctypes
ctypes.string_at(0)
