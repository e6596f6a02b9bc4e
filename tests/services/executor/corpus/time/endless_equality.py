# A comparison that never ends, called by a sort in C.
# expect: timeout
# limits: seconds=0.3
class Slow:
    def __lt__(self, other):
        while True:
            pass
sorted([Slow(), Slow()])
