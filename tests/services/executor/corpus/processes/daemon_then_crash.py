# Starts a daemon and crashes, so that the warden sees a crash instead of a normal end.
# expect: crashed
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    os._exit(0)
os.wait()
os.abort()
