# Appends a line to a module of the standard library.
# expect: ok
# stdout: refused
import glob, os, random
paths = [random.__file__, *glob.glob(os.path.dirname(os.__file__) + "/__pycache__/random*"), os.__file__]
for path in paths:
    for mode in ("a", "r+", "w"):
        try:
            open(path, mode).close()
            print("LEAKED", path)
        except OSError:
            pass
print("refused")
