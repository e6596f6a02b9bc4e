# Numpy arrays, each of them touched, until there is no more memory.
# expect: memory
# limits: memory_mib=96
import numpy
kept = []
while True:
    kept.append(numpy.ones(10**6))
