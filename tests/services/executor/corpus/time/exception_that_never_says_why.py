# An exception whose __str__ never ends.
# expect: timeout
# limits: seconds=0.3
class E(Exception):
    def __str__(self):
        while True:
            pass
raise E
