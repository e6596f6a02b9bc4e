# Blocks every signal and sleeps.
# expect: timeout
# limits: seconds=0.3
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True:
    time.sleep(1)
