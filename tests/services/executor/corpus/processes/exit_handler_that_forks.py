# An exit handler starts a daemon after the last line.
# expect: ok
# stdout: done
import atexit, os, time
def late():
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
atexit.register(late)
print("done")
