# Looks for the environment of the service, in Python, in memory and in files.
# expect: ok
# stdout: False False
import ctypes, os
found = dict(os.environ)
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
k = 0
while environ and environ[k]:
    found[environ[k]] = 1
    k += 1
for path in ("/proc/self/environ", f"/proc/{os.getppid()}/environ", "/proc/1/environ"):
    try:
        found[path] = open(path).read()
    except OSError:
        pass
print(any("hunter2" in str(item) for item in found.items()), "RSTAR_CORPUS_SECRET" in str(found))
