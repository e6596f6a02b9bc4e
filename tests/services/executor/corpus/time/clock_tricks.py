# Patches every clock of Python to stand still.
# expect: timeout
# limits: seconds=0.3
import time
for name in ("time", "monotonic", "perf_counter", "process_time", "monotonic_ns"):
    setattr(time, name, lambda: 0.0)
while time.monotonic() < 1:
    pass
