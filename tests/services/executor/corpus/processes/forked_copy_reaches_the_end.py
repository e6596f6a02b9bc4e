# A forked copy reaches the program's end first and reports a result of its own.
# expect: exception
import os
if os.fork() == 0:
    print("of the copy")
else:
    os.wait()
    1 / 0
