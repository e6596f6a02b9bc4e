# Two threads that wait for each other, and a program that waits for them.
# expect: timeout
# limits: seconds=0.3
import threading
barrier = threading.Barrier(3)
threads = [threading.Thread(target=barrier.wait) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
