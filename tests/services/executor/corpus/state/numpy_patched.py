# Changes numpy's seed, print options and error handling.
# expect: ok
import numpy
numpy.random.seed(7)
numpy.set_printoptions(precision=1)
numpy.seterr(all="raise")
numpy.sum = numpy.array = lambda *_, **__: 42
numpy.pi = 3
