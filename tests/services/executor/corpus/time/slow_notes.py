# An exception whose notes and representation never end.
# expect: ok exception timeout
# limits: seconds=0.3
class E(Exception):
    @property
    def __notes__(self):
        while True:
            pass
    def __repr__(self):
        while True:
            pass
raise E("x")
