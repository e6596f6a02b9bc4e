# A child keeps standard output open after the program's end, to delay its result.
# expect: ok
# stdout: done
import os, time
if os.fork() == 0:
    time.sleep(1000)
print("done")
