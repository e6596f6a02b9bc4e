# Leaves a sys.stdout whose flush never ends.
# expect: timeout ok
# limits: seconds=0.3
import sys
class Slow:
    def write(self, text):
        return len(text)
    def flush(self):
        while True:
            pass
sys.stdout = Slow()
