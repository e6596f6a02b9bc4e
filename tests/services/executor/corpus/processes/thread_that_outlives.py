# A thread goes on when the last line was reached; Python waits for it, without end.
# expect: timeout
# limits: seconds=0.3
import threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
