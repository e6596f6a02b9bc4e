# Handles every signal and continues.
# expect: timeout
# limits: seconds=0.3
import signal
for number in signal.valid_signals():
    try:
        signal.signal(number, lambda *_: None)
    except (OSError, ValueError):
        pass
while True:
    signal.raise_signal(signal.SIGTERM)
