# Writes over every object that the collector knows.
# expect: ok exception crashed timeout
# limits: seconds=1
import ctypes, gc
for value in gc.get_objects():
    if isinstance(value, dict):
        try:
            value.clear()
        except Exception:
            pass
