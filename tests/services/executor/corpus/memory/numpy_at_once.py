# An array of numpy's too large.
# expect: memory
# limits: memory_mib=96
import numpy
numpy.ones(10**10)
