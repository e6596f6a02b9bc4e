# A numpy array that is too large.
# expect: memory
# limits: memory_mib=96
import numpy
numpy.ones(10**10)
