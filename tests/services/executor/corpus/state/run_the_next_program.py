# Calls the runner's own functions, to read or run the next program.
# expect: ok exception crashed
# opens with: above
import types
for frame in list(above()):
    for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
        if name in ("read_command", "write_command", "wipe", "begin", "shut_down", "describe"):
            try:
                print(type(value()).__name__)
            except BaseException:
                pass
