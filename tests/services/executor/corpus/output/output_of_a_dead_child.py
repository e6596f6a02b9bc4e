# What a child wrote before the end belongs to the output; what it writes later does not.
# expect: ok
# stdout: child
# stdout: parent
import os
if os.fork() == 0:
    os.write(1, b"child\n")
    os._exit(0)
os.wait()
print("parent")
