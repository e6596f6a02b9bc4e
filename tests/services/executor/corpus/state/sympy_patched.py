# Changes sympy's cached numbers, caches and functions.
# expect: ok
import sympy
from sympy.core import cache
sympy.simplify = sympy.solve = lambda *_, **__: 42
sympy.Integer.__add__ = lambda *_: sympy.Integer(5)
cache.clear_cache()
sympy.symbols = None
