# Walks up the frames into the runner and changes what it finds there.
# expect: ok exception crashed
# opens with: above
for frame in above():
    for name, value in list(frame.f_globals.items()):
        if callable(value) and not name.startswith("__") and frame.f_globals is not globals():
            frame.f_globals[name] = lambda *_, **__: None
