# Waits for a lock that it holds.
# expect: timeout
# limits: seconds=0.3
import threading
lock = threading.Lock()
lock.acquire()
lock.acquire()
