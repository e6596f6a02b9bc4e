# Descendants fork as fast as they can while they are being killed.
# expect: ok
# stdout: done
import os
if os.fork() == 0:
    for _ in range(3000):  # bounded, wherever it runs
        try:
            if os.fork():
                os._exit(0)
            os.setsid()
        except OSError:
            pass
print("done")
