# Leaves a sys.stdout that raises whenever it is used.
# expect: ok exception
import sys
class Bad:
    def __getattr__(self, name):
        raise RuntimeError(name)
sys.stdout = sys.stderr = Bad()
