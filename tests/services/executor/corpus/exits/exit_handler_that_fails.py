# An exit handler raises; Python reports it and exits with success.
# expect: ok
# stdout: done
import atexit
atexit.register(lambda: 1 / 0)
print("done")
