# Changes numpy: its seed, how it prints, what it raises.
# expect: ok
import numpy
numpy.random.seed(7)
numpy.set_printoptions(precision=1)
numpy.seterr(all="raise")
numpy.sum = numpy.array = lambda *_, **__: 42
numpy.pi = 3
