# An object whose destructor never ends; it may run at the program's end.
# expect: ok timeout
# limits: seconds=0.3
class Last:
    def __del__(self):
        while True:
            pass
last = Last()
del last
