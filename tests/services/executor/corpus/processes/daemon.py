# Forks twice into new sessions, as daemons do, to outlive its end.
# expect: ok
# stdout: done
import os, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.write(w, b"x")
        while True:
            time.sleep(1)
    os._exit(0)
os.read(r, 1)
print("done")
