# Catches every exception raised in it.
# expect: timeout
# limits: seconds=0.3
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
