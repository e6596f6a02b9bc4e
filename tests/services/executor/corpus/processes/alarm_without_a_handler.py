# Its own timer ends it.
# expect: crashed
import signal, time
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(1000)
