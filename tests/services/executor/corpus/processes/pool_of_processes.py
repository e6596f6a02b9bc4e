# A multiprocessing pool: semaphores in shared memory, pipes, workers that wait for ever.
# expect: ok exception
import multiprocessing
pool = multiprocessing.get_context("fork").Pool(2)
print(pool.map(abs, [-1, -2]))
