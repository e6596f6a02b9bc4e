# Calls the functions of the runner itself, to read what comes next or to run it.
# expect: ok exception crashed
# opens with: above
import types
for frame in list(above()):
    for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
        if name in ("ordered", "order", "wipe", "begin", "_shut_down", "describe"):
            try:
                print(type(value()).__name__)
            except BaseException:
                pass
