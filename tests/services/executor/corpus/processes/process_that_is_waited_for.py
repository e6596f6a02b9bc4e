# multiprocessing waits at exit for a process that never ends.
# expect: timeout
# limits: seconds=0.3
import multiprocessing, time
multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,)).start()
