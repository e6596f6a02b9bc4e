# Loops in many processes and threads at once; they count as one program.
# expect: timeout
# limits: seconds=0.3
import os, threading
for _ in range(3):
    os.fork()
for _ in range(4):
    threading.Thread(target=lambda: sum(range(10**15)), daemon=True).start()
while True:
    pass
