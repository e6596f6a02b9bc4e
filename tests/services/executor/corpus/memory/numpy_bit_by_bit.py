# Arrays of numpy's, each touched, until there is no more.
# expect: memory
# limits: memory_mib=96
import numpy
kept = []
while True:
    kept.append(numpy.ones(10**6))
