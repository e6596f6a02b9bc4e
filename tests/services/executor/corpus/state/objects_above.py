# Changes every attribute of every object that the runner's frames hold.
# expect: ok exception crashed
# opens with: above
for frame in above():
    for value in list(frame.f_locals.values()):
        for name in list(getattr(value, "__dict__", ())):
            try:
                setattr(value, name, None)
            except Exception:
                pass
