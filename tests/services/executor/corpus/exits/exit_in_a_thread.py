# Leaves a thread by sys.exit, which ends the thread alone.
# expect: ok
# stdout: done
import sys, threading
thread = threading.Thread(target=sys.exit, args=(3,))
thread.start()
thread.join()
print("done")
