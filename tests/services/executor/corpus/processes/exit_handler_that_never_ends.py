# An exit handler never ends.
# expect: timeout
# limits: seconds=0.3
import atexit, time
atexit.register(time.sleep, 1000)
