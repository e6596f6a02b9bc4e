# Calls sys.exit in a thread, which ends only that thread.
# expect: ok
# stdout: done
import sys, threading
thread = threading.Thread(target=sys.exit, args=(3,))
thread.start()
thread.join()
print("done")
