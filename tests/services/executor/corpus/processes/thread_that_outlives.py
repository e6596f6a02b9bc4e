# A thread runs without end after the last line; Python waits for it.
# expect: timeout
# limits: seconds=0.3
import threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
