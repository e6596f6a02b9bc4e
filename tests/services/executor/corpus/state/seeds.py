# Seeds every random generator and draws from it.
# expect: ok
import random
random.seed(7)
[random.random() for _ in range(1000)]
random.SystemRandom = None
