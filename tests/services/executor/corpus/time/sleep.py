# Sleeps.
# expect: timeout
# limits: seconds=0.3
import time
time.sleep(10**6)
