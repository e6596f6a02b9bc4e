# Eight processes make the call that the warden receives without end, to keep it from looking at the clock.
# expect: timeout
# limits: seconds=0.3
import os
for _ in range(3):
    os.fork()
while True:
    try:
        os.sched_rr_get_interval(0)
    except OSError:
        pass
