# An exit handler holds the end back.
# expect: timeout
# limits: seconds=0.3
import atexit, time
atexit.register(time.sleep, 1000)
