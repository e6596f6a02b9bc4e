# Writes machine code into its directory and loads it as a library.
# expect: ok exception
import ctypes, shutil
try:
    import _ctypes
    shutil.copyfile(_ctypes.__file__, "lib.so")
    ctypes.CDLL("./lib.so")
    print("loaded")
except (OSError, AttributeError):
    print("refused")
