# Every process forks as often as it can; none ends by itself.
# expect: timeout
# limits: seconds=1
import os, time
for _ in range(8):  # 256 processes, wherever it runs
    try:
        os.fork()
    except OSError:
        break
time.sleep(1000)
