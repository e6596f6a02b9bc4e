# Swallows whatever is raised into it.
# expect: timeout
# limits: seconds=0.3
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
