# Ten lines of descendants that each leave their parent at once, a hundred generations long.
# expect: ok
# stdout: done
import os, time
for _ in range(10):
    if os.fork() == 0:
        for _ in range(100):
            if os.fork():
                os._exit(0)
            os.setsid()
        time.sleep(1000)
print("done")
