# Starts two thousand daemon threads, which nothing waits for.
# expect: ok
# stdout: done
import threading, time
try:
    for _ in range(2000):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
except (RuntimeError, MemoryError):
    pass
print("done")
