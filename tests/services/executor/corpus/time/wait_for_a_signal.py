# Waits for a signal that never comes.
# expect: timeout
# limits: seconds=0.3
import signal
signal.pause()
