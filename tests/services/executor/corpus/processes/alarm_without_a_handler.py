# Is ended by its own timer.
# expect: crashed
import signal, time
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(1000)
